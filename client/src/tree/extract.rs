//! Makes some files of a tree in a folder that may have others already, and for that
//! needs the chunks of these files only.

use std::{
    collections::{BTreeSet, HashSet},
    ffi::OsStr,
    fs::{File, read_link},
    io::{self, Write as _},
    ops::Range,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use blake3::{Hash, Hasher};

use super::{Chunk, Creation, CreationFault, Entry, Kind, Tree, seal};
use crate::source::layout::{self, entry::shown};

/// Some of a tree.
pub struct Extraction {
    tree: Tree,
    /// The files, links and empty folders that are wanted, and where the content of each begins.
    wanted: Vec<(usize, u64)>,
    /// Where each chunk begins.
    starts: Vec<u64>,
}

/// Why nothing came of an entry.
#[derive(Debug, thiserror::Error)]
pub enum ExtractError {
    /// It could not be made.
    #[error("cannot make {path}: {source}")]
    Write {
        /// Which.
        path: String,
        /// Why not.
        source: io::Error,
    },
    /// Something else is there.
    #[error("{0} is there already and is another; remove it, or choose another folder")]
    Taken(String),
    /// Its chunks are not those that the manifest promised.
    #[error("{0} is damaged where the coordinators keep it")]
    Damaged(String),
}

impl Extraction {
    /// Those files, links and empty folders whose paths are `wanted`.
    #[must_use]
    pub fn new(tree: Tree, wanted: impl Fn(&[u8]) -> bool) -> Self {
        let mut starts = Vec::with_capacity(tree.chunks().len());
        let mut end = 0;
        for chunk in tree.chunks() {
            starts.push(end);
            end += u64::from(chunk.length);
        }
        let parent = |path: &[u8]| path.iter().rposition(|byte| *byte == b'/');
        let paths = tree.entries().iter().map(|entry| &entry.path[..]);
        let filled: HashSet<_> = paths.filter_map(|path| Some(&path[..parent(path)?])).collect();
        let (mut position, mut chosen) = (0, Vec::new());
        for (index, Entry { path, kind }) in tree.entries().iter().enumerate() {
            if !filled.contains(&path[..]) && wanted(path) {
                chosen.push((index, position));
            }
            position += size(kind);
        }
        Self { tree, wanted: chosen, starts }
    }

    /// All of the tree, wanted or not.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }

    /// What is wanted, in the order of the paths.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.wanted.iter().map(|(index, _)| &self.tree.entries()[*index])
    }

    /// The chunks that this needs, each once.
    #[must_use]
    pub fn chunks(&self) -> Vec<Chunk> {
        let of = |(index, start): &(usize, u64)| {
            self.range(*start, size(&self.tree.entries()[*index].kind))
        };
        let indexes: BTreeSet<_> = self.wanted.iter().flat_map(of).collect();
        let mut seen = HashSet::new();
        let chunks = indexes.into_iter().map(|index| self.tree.chunks()[index]);
        chunks.filter(|chunk| seen.insert(chunk.digest)).collect()
    }

    /// Makes all of it below `dest`; what is there already and is the same stays. `chunk`
    /// gives the bytes of a chunk. How many were made. Blocks.
    ///
    /// # Errors
    /// [`ExtractError`]. What was made until then stays, and is whole.
    pub fn extract(
        &self,
        dest: &Path,
        chunk: &mut dyn FnMut(&Chunk) -> io::Result<Vec<u8>>,
    ) -> Result<u64, ExtractError> {
        let here = |source| ExtractError::Write { path: dest.display().to_string(), source };
        let top = File::open(dest).map_err(here)?;
        let mut creation = Creation::within(top.into(), u64::MAX);
        let mut made = 0;
        // The chunk that was read last: the next file often begins in it.
        let mut held: Option<(Hash, Vec<u8>)> = None;
        for (index, start) in &self.wanted {
            let entry = &self.tree.entries()[*index];
            let failed = |source| ExtractError::Write { path: shown(&entry.path), source };
            let names = layout::names(&entry.path).map_err(io::Error::other).map_err(failed)?;
            let Some((name, folders)) = names.split_last() else { continue };
            match &entry.kind {
                Kind::Folder => {
                    let there = dest.join(path(&entry.path)).symlink_metadata();
                    creation.enter(&names).map_err(|fault| taken(fault, &entry.path))?;
                    made += u64::from(there.is_err());
                }
                Kind::Link { target } => match creation.symlink(folders, name, target, None) {
                    Ok(()) => made += 1,
                    Err(fault) => {
                        let there = read_link(dest.join(path(&entry.path)));
                        if there.ok() != Some(path(target)) {
                            return Err(taken(fault, &entry.path));
                        }
                    }
                },
                Kind::File { size, digest, mode } => {
                    if is_same(&dest.join(path(&entry.path)), *size, digest) {
                        continue;
                    }
                    let draft = format!(".{}.baton-part", &digest.to_hex()[..16]);
                    let fault = |fault| taken(fault, &entry.path);
                    let mut file = creation.draft(folders, draft.as_bytes()).map_err(fault)?;
                    let content = (*start, *size, digest);
                    let written = self.write(&mut file, content, &mut held, chunk);
                    let sealed = match written.and_then(|is| seal(&file, *mode, None).map(|()| is))
                    {
                        Ok(true) => Ok(()),
                        Ok(false) => Err(ExtractError::Damaged(shown(&entry.path))),
                        Err(error) => Err(failed(error)),
                    };
                    sealed.inspect_err(|_| creation.drop_draft(draft.as_bytes()))?;
                    creation.name_draft(draft.as_bytes(), name).map_err(fault)?;
                    made += 1;
                }
            }
        }
        Ok(made)
    }

    /// Writes a content, which begins there and has that size and digest; whether it is that.
    fn write(
        &self,
        file: &mut File,
        (start, size, digest): (u64, u64, &Hash),
        held: &mut Option<(Hash, Vec<u8>)>,
        chunk: &mut dyn FnMut(&Chunk) -> io::Result<Vec<u8>>,
    ) -> io::Result<bool> {
        let mut hasher = Hasher::new();
        for index in self.range(start, size) {
            let piece = &self.tree.chunks()[index];
            if held.as_ref().is_none_or(|(digest, _)| *digest != piece.digest) {
                *held = Some((piece.digest, chunk(piece)?));
            }
            let Some((_, bytes)) = &held else { continue };
            let part = bytes.get(self.part(index, start, size)).unwrap_or_default();
            hasher.update(part);
            file.write_all(part)?;
        }
        Ok(hasher.finalize() == *digest)
    }

    /// The chunks that the content from `start` on is in.
    fn range(&self, start: u64, size: u64) -> Range<usize> {
        if size == 0 {
            return 0..0;
        }
        let first = self.starts.partition_point(|begin| *begin <= start).saturating_sub(1);
        first..self.starts.partition_point(|begin| *begin < start + size)
    }

    /// What of a chunk belongs to that content.
    fn part(&self, index: usize, start: u64, size: u64) -> Range<usize> {
        let begin = self.starts[index];
        let length = u64::from(self.tree.chunks()[index].length);
        let from = start.saturating_sub(begin).min(length);
        let to = (start + size).saturating_sub(begin).min(length);
        usize::try_from(from).unwrap_or(usize::MAX)..usize::try_from(to).unwrap_or(usize::MAX)
    }
}

const fn size(kind: &Kind) -> u64 {
    match kind {
        Kind::File { size, .. } => *size,
        Kind::Folder | Kind::Link { .. } => 0,
    }
}

fn path(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}

fn is_same(path: &Path, size: u64, digest: &Hash) -> bool {
    let found = path.symlink_metadata();
    let may_be = found.is_ok_and(|found| found.is_file() && found.len() == size);
    let hash = || {
        let mut hasher = Hasher::new();
        hasher.update_reader(File::open(path)?)?;
        Ok::<_, io::Error>(hasher.finalize())
    };
    may_be && hash().is_ok_and(|found| found == *digest)
}

fn taken(fault: CreationFault, path: &[u8]) -> ExtractError {
    match fault {
        CreationFault::Local(source) => ExtractError::Write { path: shown(path), source },
        CreationFault::Refused(_) | CreationFault::Full => ExtractError::Taken(shown(path)),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::tree::{TreeContent as _, TreeLimits, build};

    fn extraction(source: &Path, wanted: &[&str]) -> (Extraction, crate::tree::FolderTree) {
        let built = build(source, &TreeLimits::default(), &|_| {}, &|| false).unwrap();
        let wanted = |path: &[u8]| wanted.iter().any(|name| name.as_bytes() == path);
        (Extraction::new(built.tree().clone(), wanted), built)
    }

    #[test]
    fn some_files_come_with_their_chunks_only_and_what_is_there_stays() {
        let root = tempfile::tempdir().unwrap();
        let (source, dest) = (root.path().join("source"), root.path().join("dest"));
        fs::create_dir_all(source.join("sub")).unwrap();
        fs::create_dir(&dest).unwrap();
        let large: Vec<u8> = (0..9_000_000_u32).map(|n| (n % 251) as u8).collect();
        fs::write(source.join("large"), &large).unwrap();
        fs::write(source.join("sub/small"), "text").unwrap();
        fs::write(source.join("z"), "last").unwrap();
        std::os::unix::fs::symlink("../z", source.join("sub/link")).unwrap();
        let (some, built) = extraction(&source, &["sub/small", "sub/link"]);
        assert_eq!(some.chunks().len(), 1);
        let mut chunk = |chunk: &Chunk| Ok(built.chunk(chunk)?.to_vec());
        assert_eq!(some.extract(&dest, &mut chunk).unwrap(), 2);
        assert_eq!(fs::read_to_string(dest.join("sub/small")).unwrap(), "text");
        assert!(!dest.join("z").exists());
        let (all, _) = extraction(&source, &["large", "sub/small", "sub/link", "z"]);
        assert_eq!(all.extract(&dest, &mut chunk).unwrap(), 2);
        assert_eq!(fs::read(dest.join("large")).unwrap(), large);
        assert_eq!(all.extract(&dest, &mut chunk).unwrap(), 0);
        fs::write(dest.join("z"), "mine").unwrap();
        assert!(matches!(all.extract(&dest, &mut chunk), Err(ExtractError::Taken(_))));
        assert_eq!(fs::read_to_string(dest.join("z")).unwrap(), "mine");
        assert_eq!(fs::read_dir(&dest).unwrap().count(), 3);
    }

    #[test]
    fn of_folders_the_empty_ones_are_made() {
        let root = tempfile::tempdir().unwrap();
        let (source, dest) = (root.path().join("source"), root.path().join("dest"));
        fs::create_dir_all(source.join("sub/empty")).unwrap();
        fs::create_dir_all(source.join("void")).unwrap();
        fs::create_dir(&dest).unwrap();
        let (all, _) = extraction(&source, &["sub", "sub/empty", "void"]);
        let paths: Vec<_> = all.entries().map(|entry| &entry.path[..]).collect();
        assert_eq!(paths, [&b"sub/empty"[..], b"void"]);
        let mut none = |_: &Chunk| Err(io::ErrorKind::NotFound.into());
        assert_eq!(all.extract(&dest, &mut none).unwrap(), 2);
        assert!(dest.join("sub/empty").is_dir() && dest.join("void").is_dir());
        assert_eq!(all.extract(&dest, &mut none).unwrap(), 0);
    }

    #[test]
    fn nothing_is_written_through_a_link_that_is_there() {
        let root = tempfile::tempdir().unwrap();
        let (source, dest) = (root.path().join("source"), root.path().join("dest"));
        let outside = root.path().join("outside");
        for folder in [&source.join("sub"), &dest, &outside] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(source.join("sub/x"), "text").unwrap();
        std::os::unix::fs::symlink(&outside, dest.join("sub")).unwrap();
        let (all, built) = extraction(&source, &["sub/x"]);
        let mut chunk = |chunk: &Chunk| Ok(built.chunk(chunk)?.to_vec());
        assert!(all.extract(&dest, &mut chunk).is_err());
        assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    }

    #[test]
    fn a_chunk_that_is_another_makes_no_file() {
        let root = tempfile::tempdir().unwrap();
        let (source, dest) = (root.path().join("source"), root.path().join("dest"));
        fs::create_dir(&source).unwrap();
        fs::create_dir(&dest).unwrap();
        fs::write(source.join("x"), "text").unwrap();
        let (all, _) = extraction(&source, &["x"]);
        let damaged = all.extract(&dest, &mut |_| Ok(b"texT".to_vec()));
        assert!(matches!(damaged, Err(ExtractError::Damaged(_))));
        assert_eq!(fs::read_dir(&dest).unwrap().count(), 0, "nor is a draft left");
        let unread = all.extract(&dest, &mut |_| Err(io::ErrorKind::NotFound.into()));
        assert!(matches!(unread, Err(ExtractError::Write { .. })));
        assert_eq!(fs::read_dir(&dest).unwrap().count(), 0);
    }
}
