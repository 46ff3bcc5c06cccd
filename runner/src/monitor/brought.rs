//! What a job left elsewhere, on its way into the attempt's folder: archives of which only
//! what is wanted is unpacked, safely whatever they say.

use std::{
    fs,
    io::{self, Read, Write as _},
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use baton_client::{
    source::layout::{
        self, entry,
        meter::{Meter, Metered},
    },
    tree::{Creation, seal},
};
use bytes::Bytes;
use tar::{Archive, Entry, EntryType};
use tokio::sync::mpsc;

use crate::{
    collect::{self, Choice, Chosen, OUTPUT_NAME, Part},
    untrusted,
};

/// Pieces of an archive that wait to be unpacked.
const AHEAD: usize = 4;
/// The most that a file with outputs is read of.
const OUTPUT_MAX: u64 = (1 << 20) + 1;
/// Entries of one archive, wanted or not.
const ENTRIES_MAX: u64 = 10_000_000;
const BUFFER: usize = 64 << 10;

/// Makes the folder that everything comes into. What an earlier try left is removed.
pub(super) fn begin(dir: &Path) -> io::Result<()> {
    let left = collect::left_folder(dir);
    untrusted::remove(&left)?;
    fs::create_dir(&left)
}

/// A pipe into work that blocks: what is sent is what it reads.
pub(super) fn pipe() -> (mpsc::Sender<Bytes>, impl Read + Send + use<>) {
    let (sender, pieces) = mpsc::channel(AHEAD);
    (sender, Pieces { pieces, piece: Bytes::new() })
}

struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    piece: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.piece = piece,
                None => return Ok(0),
            }
        }
        let length = self.piece.len().min(buffer.len());
        buffer[..length].copy_from_slice(&self.piece.split_to(length));
        Ok(length)
    }
}

/// What is wanted of a job, for whoever brings it.
pub(super) fn choice(chosen: &Chosen, part: Part) -> io::Result<Choice> {
    let choice = match part {
        Part::Artifacts => Choice::of_globs(&chosen.names),
        Part::Caches => Choice::of_paths(&chosen.names),
    };
    choice.map_err(io::Error::other)
}

/// One part of what a job left, as it arrives.
pub(super) struct Unpacking {
    tree: Creation,
    choice: Choice,
    bytes_left: u64,
    limit: u64,
    buffer: Vec<u8>,
    /// Other names of files that did not come along.
    missed: Vec<PathBuf>,
    /// Neither file, folder nor link.
    special: Vec<PathBuf>,
}

impl Unpacking {
    /// Begins with an empty folder, whatever an earlier try left there.
    pub(super) fn begin(dir: &Path, chosen: &Chosen, part: Part) -> io::Result<Self> {
        let folder = collect::left(dir, part);
        untrusted::remove(&folder)?;
        fs::create_dir(&folder)?;
        let top = collect::open_folder(&folder)?;
        Ok(Self {
            tree: Creation::within(top, chosen.files),
            choice: choice(chosen, part)?,
            bytes_left: chosen.bytes,
            limit: chosen.bytes,
            buffer: vec![0; BUFFER],
            missed: Vec::new(),
            special: Vec::new(),
        })
    }

    /// Unpacks of an archive what is wanted. The first `strip` names of each path are left
    /// out, and `at` is where the rest belongs.
    pub(super) fn take(&mut self, archive: impl Read, strip: usize, at: &Path) -> io::Result<()> {
        let meter = Meter::new(u64::MAX, ENTRIES_MAX, &|| false);
        let mut archive = Archive::new(Metered::new(archive, &meter));
        let mut entries = archive.entries()?;
        loop {
            meter.expect_headers();
            let Some(entry) = entries.next() else { break };
            let mut entry = entry?;
            meter.expect_content();
            let Some(path) = place(&entry.path_bytes(), strip, at) else { continue };
            if self.choice.takes(&path) {
                self.entry(&mut entry, &path, strip, at).map_err(|error| {
                    io::Error::new(error.kind(), format!("{}: {error}", entry::shown(&path)))
                })?;
            }
        }
        meter.check_end(archive.into_inner()).map_err(io::Error::other)
    }

    /// The paths of what has to be asked for by itself.
    pub(super) fn missed(&mut self) -> Vec<PathBuf> {
        std::mem::take(&mut self.missed)
    }

    /// What is to be said of what was left out.
    pub(super) fn notes(&self) -> Vec<String> {
        let told =
            |path: &PathBuf| format!("left out: {}, a pipe, socket or device", path.display());
        self.special.iter().map(told).collect()
    }

    fn entry(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        path: &[u8],
        strip: usize,
        at: &Path,
    ) -> io::Result<()> {
        let names = layout::names(path).map_err(io::Error::other)?;
        let Some((name, folders)) = names.split_last() else { return Ok(()) };
        let target = || entry.link_name_bytes().unwrap_or_default().into_owned();
        match entry.header().entry_type() {
            EntryType::Directory => self.tree.enter(&names).map_err(collect::failed),
            EntryType::Regular => self.file(entry, folders, name),
            EntryType::Symlink => {
                let target = target();
                if target.is_empty() || target.contains(&0) {
                    return Err(io::Error::other("it is a link without a target"));
                }
                self.tree.symlink(folders, name, &target, None).map_err(collect::failed)
            }
            EntryType::Link => {
                let other = place(&target(), strip, at);
                let other = other.as_deref().map(layout::names).transpose();
                let linked = match other {
                    Ok(Some(other)) => self.tree.hard_link(folders, name, &other).is_ok(),
                    _ => false,
                };
                if !linked {
                    self.missed.push(std::ffi::OsStr::from_bytes(path).into());
                }
                Ok(())
            }
            _ => {
                self.special.push(std::ffi::OsStr::from_bytes(path).into());
                Ok(())
            }
        }
    }

    fn file(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        folders: &[&[u8]],
        name: &[u8],
    ) -> io::Result<()> {
        let whole = entry.path_bytes().into_owned();
        let judged = entry::judge(entry, &whole).map_err(io::Error::other)?;
        let Some(judged) = judged else { return Ok(()) };
        let mut file = self.tree.create(folders, name).map_err(collect::failed)?;
        loop {
            let read = entry.read(&mut self.buffer)?;
            if read == 0 {
                break;
            }
            let left = self.bytes_left.checked_sub(read as u64);
            self.bytes_left = left.ok_or_else(|| {
                io::Error::other(format!("they have more than {} bytes", self.limit))
            })?;
            file.write_all(&self.buffer[..read])?;
        }
        seal(&file, judged.mode, Some(judged.mtime))
    }
}

/// Takes the file with the outputs from an archive that holds nothing else.
pub(super) fn take_output(dir: &Path, archive: impl Read) -> io::Result<()> {
    let mut archive = Archive::new(archive);
    if let Some(entry) = archive.entries()?.next() {
        let entry = entry?;
        if entry.header().entry_type() == EntryType::Regular {
            write_output(dir, entry)?;
        }
    }
    io::copy(&mut archive.into_inner(), &mut io::sink())?;
    Ok(())
}

/// Writes the file with the outputs.
pub(super) fn write_output(dir: &Path, content: impl Read) -> io::Result<()> {
    let mut bytes = Vec::new();
    content.take(OUTPUT_MAX).read_to_end(&mut bytes)?;
    fs::write(collect::left_folder(dir).join(OUTPUT_NAME), bytes)
}

/// Where the entry of an archive belongs. None: it is what was left out itself, or has no
/// place below the folder.
fn place(name: &[u8], strip: usize, at: &Path) -> Option<Vec<u8>> {
    let names = layout::names(name).ok()?;
    let rest = names.get(strip..)?.join(&b'/');
    let at = at.as_os_str().as_bytes();
    let separator: &[u8] = if at.is_empty() || rest.is_empty() { b"" } else { b"/" };
    Some([at, separator, &rest].concat()).filter(|path| !path.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(names: &[&str], bytes: u64) -> Chosen {
        Chosen { names: names.iter().map(ToString::to_string).collect(), bytes, files: 10 }
    }

    fn add(archive: &mut tar::Builder<Vec<u8>>, kind: EntryType, name: &str, content: &str) {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o4777);
        // As it is: the library refuses what a hostile host would send.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        if matches!(kind, EntryType::Symlink | EntryType::Link) {
            header.as_old_mut().linkname[..content.len()].copy_from_slice(content.as_bytes());
            header.set_size(0);
            header.set_cksum();
            archive.append(&header, io::empty()).unwrap();
        } else {
            header.set_size(content.len() as u64);
            header.set_cksum();
            archive.append(&header, content.as_bytes()).unwrap();
        }
    }

    /// What was missed, and what was said of the rest.
    type Unpacked = (Vec<PathBuf>, Vec<String>);

    fn unpack(
        entries: &[(EntryType, &str, &str)],
        chosen: &Chosen,
    ) -> (tempfile::TempDir, io::Result<Unpacked>) {
        let dir = tempfile::tempdir().unwrap();
        begin(dir.path()).unwrap();
        let mut archive = tar::Builder::new(Vec::new());
        for (kind, name, content) in entries {
            add(&mut archive, *kind, name, content);
        }
        let archive = archive.into_inner().unwrap();
        let mut unpacking = Unpacking::begin(dir.path(), chosen, Part::Artifacts).unwrap();
        let taken = unpacking.take(&archive[..], 1, Path::new("out"));
        let missed = taken.map(|()| (unpacking.missed(), unpacking.notes()));
        (dir, missed)
    }

    #[test]
    fn what_is_wanted_comes_to_its_place_and_nothing_else() {
        let entries = [
            (EntryType::Directory, "base", ""),
            (EntryType::Regular, "base/a.txt", "1"),
            (EntryType::Regular, "base/b.bin", "2"),
            (EntryType::Link, "base/c.txt", "base/a.txt"),
            (EntryType::Link, "base/d.txt", "base/b.bin"),
            (EntryType::Fifo, "base/e.txt", ""),
        ];
        let (dir, taken) = unpack(&entries, &chosen(&["out/*.txt"], 100));
        let (missed, notes) = taken.unwrap();
        assert_eq!(missed, [PathBuf::from("out/d.txt")]);
        assert_eq!(notes, ["left out: out/e.txt, a pipe, socket or device"]);
        let out = dir.path().join("left/artifacts/out");
        let mut names: Vec<_> =
            fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["a.txt", "c.txt"]);
        assert_eq!(fs::read_to_string(out.join("c.txt")).unwrap(), "1");
    }

    #[test]
    fn a_hostile_archive_writes_nothing_outside() {
        let outside = tempfile::tempdir().unwrap();
        let link = outside.path().to_str().unwrap();
        for entries in [
            vec![(EntryType::Regular, "base/../../../x", "1")],
            vec![(EntryType::Regular, "/base/x", "1")],
            vec![(EntryType::Symlink, "base/l", link), (EntryType::Regular, "base/l/x", "1")],
            vec![(EntryType::Symlink, "base/x", link), (EntryType::Regular, "base/x", "1")],
        ] {
            let (dir, _) = unpack(&entries, &chosen(&["**"], 100));
            assert_eq!(fs::read_dir(outside.path()).unwrap().count(), 0);
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "{entries:?}");
        }
    }

    #[test]
    fn there_is_no_more_than_may_be() {
        let (_, taken) = unpack(&[(EntryType::Regular, "base/a", "12345")], &chosen(&["**"], 4));
        assert!(taken.unwrap_err().to_string().contains("more than 4 bytes"));
        let many: Vec<_> = (0..11).map(|number| format!("base/{number}")).collect();
        let many: Vec<_> =
            many.iter().map(|name| (EntryType::Regular, name.as_str(), "")).collect();
        assert!(unpack(&many, &chosen(&["**"], 100)).1.is_err());
    }
}
