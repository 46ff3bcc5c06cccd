//! A disk for stored files: real files, of which the simulator knows what was flushed.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use baton_coordinator::files::{Disk, SystemDisk};

use super::Io;
use crate::{
    bugs::{Bug, Bugs},
    fuse::{Fuse, Step},
};

/// One node's disk. It outlives the process.
#[derive(Clone, Debug, Default)]
pub struct FilesDisk(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
struct Known {
    /// Bytes of each file that survive a loss of power.
    flushed: BTreeMap<PathBuf, u64>,
    /// Names that were given and may not survive one, in order.
    names: Vec<Name>,
    /// What fails next.
    fails: Option<Io>,
    failed: u64,
    /// How often some of what was flushed may have become less.
    shortened: u64,
}

#[derive(Debug)]
enum Name {
    Made(PathBuf),
    Changed { from: PathBuf, to: PathBuf },
}

impl Name {
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Made(path) | Self::Changed { to: path, .. } => path.parent(),
        }
    }
}

impl FilesDisk {
    /// The next operation of this kind fails, once.
    pub fn fail_next(&self, io: Io) {
        self.lock().fails = Some(io);
    }

    /// How many operations have failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.lock().failed
    }

    /// How often bytes that had been flushed were cut off or removed, or power was lost.
    #[must_use]
    pub fn shortened(&self) -> u64 {
        self.lock().shortened
    }

    /// Bytes of a file that survive a loss of power; none of one whose name does not.
    #[must_use]
    pub fn survives(&self, path: &Path) -> u64 {
        let known = self.lock();
        let is_lost = known.names.iter().any(|name| match name {
            Name::Made(made) => made == path,
            Name::Changed { .. } => false,
        });
        if is_lost { 0 } else { known.flushed.get(path).copied().unwrap_or(0) }
    }

    /// Loses some of what was not flushed. How many files were cut back or are gone.
    ///
    /// # Errors
    /// When the real files cannot be changed.
    pub fn lose_power(&self, random: &mut fastrand::Rng) -> io::Result<u64> {
        let mut known = self.lock();
        known.shortened += 1;
        let mut lost = 0;
        let kept = random.usize(..=known.names.len());
        for name in known.names.split_off(kept).into_iter().rev() {
            lost += 1;
            match name {
                Name::Made(path) => {
                    remove(&path)?;
                    known.flushed.remove(&path);
                }
                Name::Changed { from, to } => {
                    fs::rename(&to, &from)?;
                    if let Some(flushed) = known.flushed.remove(&to) {
                        known.flushed.insert(from, flushed);
                    }
                }
            }
        }
        known.names.clear();
        for (path, flushed) in &mut known.flushed {
            let Ok(metadata) = fs::metadata(path) else { continue };
            if metadata.len() > *flushed {
                let length = random.u64(*flushed..=metadata.len());
                OpenOptions::new().write(true).open(path)?.set_len(length)?;
                *flushed = length;
                lost += 1;
            }
        }
        Ok(lost)
    }

    /// Whether an operation is to fail.
    fn fails(&self, io: Io) -> bool {
        let mut known = self.lock();
        let fails = known.fails == Some(io);
        if fails {
            known.fails = None;
            known.failed += 1;
        }
        fails
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// The disk as a process uses it.
#[derive(Debug)]
pub struct Mounted {
    disk: FilesDisk,
    fuse: Fuse,
    bugs: Bugs,
}

impl Mounted {
    /// For a process with this fuse.
    #[must_use]
    pub fn new(disk: FilesDisk, fuse: Fuse, bugs: Bugs) -> Self {
        Self { disk, fuse, bugs }
    }

    fn take<T>(&self, step: Step, take: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.fuse.pass(step, take).map_err(io::Error::other)?
    }

    fn flush(&self, path: &Path, file: &File) -> io::Result<()> {
        let length = file.metadata()?.len();
        if self.disk.fails(Io::Flush) {
            return Err(io::Error::other("input/output error"));
        }
        let mut known = self.disk.lock();
        if !self.bugs.has(Bug::FilesAreNotFlushed) {
            known.flushed.insert(path.to_owned(), length);
        }
        Ok(())
    }
}

impl Disk for Mounted {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.take(Step::FileWrite, || {
            let file = SystemDisk.create(path)?;
            let mut known = self.disk.lock();
            known.flushed.insert(path.to_owned(), 0);
            known.names.push(Name::Made(path.to_owned()));
            Ok(file)
        })
    }

    fn write_all_at(&self, path: &Path, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.take(Step::FileWrite, || {
            if self.disk.fails(Io::Write) {
                // Some of it is there.
                SystemDisk.write_all_at(path, file, &bytes[..bytes.len() / 2], offset)?;
                return Err(io::ErrorKind::StorageFull.into());
            }
            SystemDisk.write_all_at(path, file, bytes, offset)
        })
    }

    fn set_len(&self, path: &Path, file: &File, length: u64) -> io::Result<()> {
        self.take(Step::FileWrite, || {
            SystemDisk.set_len(path, file, length)?;
            let mut known = self.disk.lock();
            if let Some(flushed) = known.flushed.get_mut(path).filter(|flushed| **flushed > length)
            {
                *flushed = length;
                known.shortened += 1;
            }
            Ok(())
        })
    }

    fn sync_data(&self, path: &Path, file: &File) -> io::Result<()> {
        self.take(Step::FileSync, || self.flush(path, file))
    }

    fn sync_all(&self, path: &Path, file: &File) -> io::Result<()> {
        self.take(Step::FileSync, || self.flush(path, file))
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.take(Step::FileSync, || {
            self.disk.lock().names.retain(|name| name.folder() != Some(folder));
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.take(Step::FileWrite, || {
            SystemDisk.rename(from, to)?;
            let mut known = self.disk.lock();
            if let Some(flushed) = known.flushed.remove(from) {
                known.flushed.insert(to.to_owned(), flushed);
            }
            known.names.push(Name::Changed { from: from.to_owned(), to: to.to_owned() });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.take(Step::FileWrite, || {
            SystemDisk.remove(path)?;
            let mut known = self.disk.lock();
            known.flushed.remove(path);
            known.shortened += 1;
            // It is taken for gone for good: content that is not there any more cannot
            // come back.
            known.names.retain(|name| match name {
                Name::Made(made) => made != path,
                Name::Changed { to, .. } => to != path,
            });
            Ok(())
        })
    }
}
