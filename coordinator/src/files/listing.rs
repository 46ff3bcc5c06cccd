//! All files of a store, for retention, for garbage collection, and for the other
//! members. However many there are, only a few are in memory at once.

use std::{
    array, fs,
    path::{Path, PathBuf},
    time::SystemTime,
    vec,
};

use super::{
    Files,
    blocking::Work,
    disk,
    error::{FilesError, Result},
    name::{FileName, KINDS},
};

/// Files looked at in one go.
const LOOKED_AT: usize = 256;

/// A file in a [`Listing`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which file.
    pub name: FileName,
    /// Its length in bytes.
    pub length: u64,
    /// Whether it is final.
    pub sealed: bool,
    /// When it was last written.
    pub modified: SystemTime,
}

/// All files, in the order of their paths. Files that come or go meanwhile may or may
/// not be in it.
#[derive(Debug)]
pub struct Listing {
    files: Files,
    found: vec::IntoIter<Listed>,
    /// The look for more; none after the last.
    work: Option<Work<(Vec<Listed>, Option<Walk>)>>,
}

impl Files {
    /// Lists all files. The walk goes on only as fast as the listing is read.
    #[must_use]
    pub fn list(&self) -> Listing {
        let walk = Walk::new(self.inner.root.clone());
        Listing {
            files: self.clone(),
            found: Vec::new().into_iter(),
            work: Some(self.blocking(|| walk.look())),
        }
    }
}

impl Listing {
    /// The next file; `None` after the last. May be dropped at any time.
    ///
    /// # Errors
    /// [`FilesError::Io`], [`FilesError::Stopping`]; the listing ends there.
    pub async fn next(&mut self) -> Result<Option<Listed>> {
        loop {
            if let Some(listed) = self.found.next() {
                return Ok(Some(listed));
            }
            let Some(work) = &mut self.work else { return Ok(None) };
            let looked = work.await;
            self.work = None;
            let (found, walk) = looked?;
            self.found = found.into_iter();
            self.work = walk.map(|walk| self.files.blocking(|| walk.look()));
        }
    }
}

/// How far a listing is.
#[derive(Debug)]
struct Walk {
    root: PathBuf,
    kind: &'static str,
    /// What is left of each.
    kinds: array::IntoIter<&'static str, { KINDS.len() }>,
    shards: vec::IntoIter<PathBuf>,
    files: vec::IntoIter<PathBuf>,
}

impl Walk {
    fn new(root: PathBuf) -> Self {
        let (shards, files) = (Vec::new().into_iter(), Vec::new().into_iter());
        Self { root, kind: "", kinds: KINDS.into_iter(), shards, files }
    }

    /// The next few files, and the way on from there.
    fn look(mut self) -> Result<(Vec<Listed>, Option<Self>)> {
        let mut found = Vec::new();
        for _ in 0..LOOKED_AT {
            let Some(file) = self.next_file()? else { return Ok((found, None)) };
            found.extend(listed(self.kind, &file)?);
        }
        Ok((found, Some(self)))
    }

    fn next_file(&mut self) -> Result<Option<PathBuf>> {
        loop {
            if let Some(file) = self.files.next() {
                return Ok(Some(file));
            }
            if let Some(shard) = self.shards.next() {
                if shard.is_dir() {
                    self.files = folder(&shard)?;
                }
                continue;
            }
            let Some(kind) = self.kinds.next() else { return Ok(None) };
            self.kind = kind;
            self.shards = folder(&self.root.join(kind))?;
        }
    }
}

/// What is in a folder, always in the same order.
fn folder(path: &Path) -> Result<vec::IntoIter<PathBuf>> {
    let entries = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>, _>>())
        .map_err(|error| FilesError::io("list", path, error));
    let mut entries = entries?;
    entries.sort_unstable();
    Ok(entries.into_iter())
}

fn listed(kind: &str, path: &Path) -> Result<Option<Listed>> {
    let file = path.file_name().and_then(|file| file.to_str());
    let name = file.and_then(|file| FileName::from_path(kind, file));
    let Some((name, sealed)) = name else { return Ok(None) };
    // Sealed or removed since the folder was read.
    let Some(metadata) = disk::metadata(path)? else { return Ok(None) };
    let modified = metadata.modified().map_err(|error| FilesError::io("look at", path, error))?;
    Ok(Some(Listed { name, length: metadata.len(), sealed, modified }))
}
