//! A disk for stored files: real files, of which the simulator knows what was flushed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use baton_coordinator::files::{Disk, SystemDisk};

use super::{Io, gone};
use crate::{
    bugs::{Bug, Bugs},
    fuse::{Fuse, Step},
};

/// One node's disk. Clones are the same disk; it outlives the process.
#[derive(Clone, Debug)]
pub struct FilesDisk(Arc<Mutex<Known>>);

#[derive(Debug)]
struct Known {
    random: fastrand::Rng,
    files: BTreeMap<PathBuf, Content>,
    /// Folders in which files were made.
    folders: BTreeSet<PathBuf>,
    /// Names that were given and may not survive a loss of power, in order.
    names: Vec<Name>,
    /// What fails next.
    fails: Option<Io>,
    failed: u64,
    /// How often some of what was flushed may have become less.
    shortened: u64,
}

/// What is known of a file's bytes.
#[derive(Clone, Debug, Default)]
struct Content {
    /// As many of them survive a loss of power.
    flushed: u64,
    /// A flush of these has failed: the system has dropped them, shows them all the
    /// same, and says of the next flush that it went well.
    dropped: Option<Range<u64>>,
}

impl Content {
    fn flush_failed(&mut self, length: u64) {
        let from = self.dropped.as_ref().map_or(self.flushed, |dropped| dropped.start);
        if from < length {
            self.dropped = Some(from..length);
        }
    }

    fn flush(&mut self, length: u64) {
        self.flushed = self.dropped.as_ref().map_or(length, |dropped| dropped.start);
    }

    /// What is written anew waits for a flush like everything else.
    fn write(&mut self, written: &Range<u64>) {
        if let Some(dropped) = &mut self.dropped
            && written.start <= dropped.start
        {
            dropped.start = dropped.start.max(written.end);
        }
        self.dropped = self.dropped.take().filter(|dropped| dropped.start < dropped.end);
    }

    fn cut(&mut self, length: u64) {
        self.flushed = self.flushed.min(length);
        if let Some(dropped) = &mut self.dropped {
            dropped.end = dropped.end.min(length);
        }
        self.dropped = self.dropped.take().filter(|dropped| dropped.start < dropped.end);
    }
}

#[derive(Debug)]
enum Name {
    Folder(PathBuf),
    Made(PathBuf),
    Changed { from: PathBuf, to: PathBuf },
}

impl Name {
    /// The folder that it stands in.
    fn folder(&self) -> Option<&Path> {
        match self {
            Self::Folder(path) | Self::Made(path) | Self::Changed { to: path, .. } => path.parent(),
        }
    }
}

/// What a loss of power did to the files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LostOfFiles {
    /// Files that were cut back.
    pub cut: u64,
    /// Names that are gone, or are again what they were.
    pub names: u64,
}

impl FilesDisk {
    /// An empty disk. `random` decides what a failure leaves.
    #[must_use]
    pub fn new(random: fastrand::Rng) -> Self {
        Self(Arc::new(Mutex::new(Known {
            shortened: 0,
            random,
            files: BTreeMap::new(),
            folders: BTreeSet::new(),
            names: Vec::new(),
            fails: None,
            failed: 0,
        })))
    }

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

    /// Bytes of a file that survive a loss of power, be it under the name that it had
    /// before; none when no name of it does.
    #[must_use]
    pub fn survives(&self, path: &Path) -> u64 {
        let known = self.lock();
        let mut called = path;
        for name in known.names.iter().rev() {
            match name {
                Name::Changed { from, to } if to == called => called = from,
                Name::Made(made) if made == called => return 0,
                Name::Folder(folder) if called.parent() == Some(folder) => return 0,
                Name::Folder(_) | Name::Made(_) | Name::Changed { .. } => {}
            }
        }
        known.files.get(path).map_or(0, |content| content.flushed)
    }

    /// What the files are called.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.lock().files.keys().cloned().collect()
    }

    /// Loses some of what was not flushed.
    ///
    /// # Errors
    /// When the real files cannot be changed.
    pub fn lose_power(&self) -> io::Result<LostOfFiles> {
        let mut known = self.lock();
        known.shortened += 1;
        let names = known.lose_names()?;
        let Known { random, files, .. } = &mut *known;
        let mut cut = 0;
        for (path, content) in files {
            let Ok(metadata) = fs::metadata(path) else { continue };
            let most = content.dropped.take().map_or(metadata.len(), |dropped| dropped.start);
            let length = random.u64(content.flushed..=most.max(content.flushed));
            if metadata.len() > length {
                OpenOptions::new().write(true).open(path)?.set_len(length)?;
                cut += 1;
            }
            content.flushed = length;
        }
        Ok(LostOfFiles { cut, names })
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

    /// Fails if it is to.
    fn take(&self, io: Io) -> io::Result<()> {
        if self.fails(io) { Err(io::Error::other("input/output error")) } else { Ok(()) }
    }

    /// As many bytes as a failed write of `length` leaves.
    fn part_of(&self, length: usize) -> usize {
        self.lock().random.usize(..=length)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn content(&mut self, path: &Path) -> &mut Content {
        self.files.entry(path.to_owned()).or_default()
    }

    /// A file was made, in a folder that may be as new.
    fn made(&mut self, path: &Path) {
        if let Some(folder) = path.parent()
            && self.folders.insert(folder.to_owned())
        {
            self.names.push(Name::Folder(folder.to_owned()));
        }
        self.files.insert(path.to_owned(), Content::default());
        self.names.push(Name::Made(path.to_owned()));
    }

    /// Takes back the last of the names that may not survive. How many.
    fn lose_names(&mut self) -> io::Result<u64> {
        let kept = self.random.usize(..=self.names.len());
        let lost = self.names.split_off(kept);
        self.names.clear();
        for name in lost.iter().rev() {
            match name {
                Name::Folder(folder) => {
                    gone(fs::remove_dir_all(folder))?;
                    self.files.retain(|path, _| path.parent() != Some(folder));
                    self.folders.remove(folder);
                }
                Name::Made(path) => {
                    gone(fs::remove_file(path))?;
                    self.files.remove(path);
                }
                Name::Changed { from, to } => {
                    fs::rename(to, from)?;
                    if let Some(content) = self.files.remove(to) {
                        self.files.insert(from.clone(), content);
                    }
                }
            }
        }
        Ok(lost.len() as u64)
    }
}

/// When every file was changed: the nodes tell each other, and the real time of a change
/// is another one in each run.
fn always() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
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
        let flushed = self.disk.take(Io::Flush);
        let mut known = self.disk.lock();
        let content = known.content(path);
        if flushed.is_err() {
            content.flush_failed(length);
        } else if !self.bugs.has(Bug::FilesAreNotFlushed) {
            content.flush(length);
        }
        flushed
    }
}

impl Disk for Mounted {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.take(Step::FileWrite, || {
            self.disk.take(Io::Create)?;
            let file = SystemDisk.create(path)?;
            file.set_modified(always())?;
            self.disk.lock().made(path);
            Ok(file)
        })
    }

    fn write_all_at(&self, path: &Path, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.take(Step::FileWrite, || {
            let fails = self.disk.fails(Io::Write);
            // Any of it may be there.
            let length = if fails { self.disk.part_of(bytes.len()) } else { bytes.len() };
            SystemDisk.write_all_at(path, file, &bytes[..length], offset)?;
            file.set_modified(always())?;
            self.disk.lock().content(path).write(&(offset..offset + length as u64));
            if fails { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
        })
    }

    fn set_len(&self, path: &Path, file: &File, length: u64) -> io::Result<()> {
        self.take(Step::FileWrite, || {
            SystemDisk.set_len(path, file, length)?;
            file.set_modified(always())?;
            let mut known = self.disk.lock();
            if known.content(path).flushed > length {
                known.shortened += 1;
            }
            known.content(path).cut(length);
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
            self.disk.take(Io::FlushFolder)?;
            self.disk.lock().names.retain(|name| name.folder() != Some(folder));
            Ok(())
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.take(Step::FileWrite, || {
            self.disk.take(Io::Rename)?;
            SystemDisk.rename(from, to)?;
            let mut known = self.disk.lock();
            if let Some(content) = known.files.remove(from) {
                known.files.insert(to.to_owned(), content);
            }
            known.names.push(Name::Changed { from: from.to_owned(), to: to.to_owned() });
            Ok(())
        })
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.take(Step::FileWrite, || {
            SystemDisk.remove(path)?;
            let mut known = self.disk.lock();
            known.files.remove(path);
            known.shortened += 1;
            // It is taken for gone for good: content that is not there any more cannot
            // come back.
            known.names.retain(|name| match name {
                Name::Made(made) => made != path,
                Name::Changed { to, .. } => to != path,
                Name::Folder(_) => true,
            });
            Ok(())
        })
    }
}
