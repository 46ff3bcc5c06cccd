//! A disk that fails. It knows what of its files was flushed, so that it can be as it
//! is after a loss of power; the files are real too, for those who read them past
//! raft-engine.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use proptest::{prelude::RngExt as _, test_runner::TestRng};
use raft_engine::env::{FileSystem, Handle, Permission, WriteExt};

use super::content::Content;
use crate::raft::flushed::Disk;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Operation {
    Create,
    Open,
    Delete,
    Read,
    Write,
    Truncate,
    Allocate,
    Sync,
    Folder,
}

/// A change of the folder that is not on disk.
enum Name {
    Made(PathBuf, u64),
    Removed(PathBuf),
}

/// Can be copied: each copy is the same disk.
#[derive(Clone)]
pub(super) struct FaultyDisk(Arc<Mutex<State>>);

struct State {
    dir: PathBuf,
    chance: TestRng,
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    names_on_disk: BTreeMap<PathBuf, u64>,
    changed: Vec<Name>,
    folder_on_disk: bool,
    operations: u64,
    /// The operation during which the power goes.
    power_until: u64,
    /// Which operation fails, after so many of its kind, and as what.
    fault: Option<(Operation, u64, &'static str)>,
    failed: bool,
}

impl FaultyDisk {
    /// An empty disk, on which the log's folder will be `dir`.
    pub(super) fn new(dir: &Path, chance: TestRng) -> Self {
        Self(Arc::new(Mutex::new(State {
            dir: dir.to_owned(),
            chance,
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            names_on_disk: BTreeMap::new(),
            changed: Vec::new(),
            folder_on_disk: false,
            operations: 0,
            power_until: u64::MAX,
            fault: None,
            failed: false,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// The power goes during the operation after so many others.
    pub(super) fn lose_power_after(&self, operations: u64) {
        let mut state = self.state();
        state.power_until = state.operations + operations;
    }

    /// Whether the power has gone, or something has failed as it was told to.
    pub(super) fn struck(&self) -> bool {
        let state = self.state();
        state.failed || state.operations > state.power_until
    }

    /// An operation fails, after so many of its kind.
    pub(super) fn fail(&self, operation: Operation, after: u64, what: &'static str) {
        self.state().fault = Some((operation, after, what));
    }

    /// The process has been killed: what was written is there, flushed or not. The
    /// disk is whole again.
    pub(super) fn restart(&self) {
        let mut state = self.state();
        state.mend();
        state.show();
    }

    /// The disk is whole again after a loss of power.
    pub(super) fn crash(&self) {
        let state = &mut *self.state();
        state.mend();
        let mut names = std::mem::take(&mut state.names_on_disk);
        for change in state.changed.drain(..) {
            if state.chance.random() {
                change.make(&mut names);
            }
        }
        if !state.folder_on_disk && state.chance.random() {
            names.clear();
            let _ = fs::remove_dir_all(&state.dir);
        }
        state.files.retain(|file, _| names.values().any(|named| named == file));
        for content in state.files.values_mut() {
            content.lose_power(&mut state.chance);
        }
        state.names_on_disk = names.clone();
        state.names = names;
        state.folder_on_disk = state.dir.exists();
        state.show();
    }

    /// Flips a bit of something that was written, and says where; none of an empty disk.
    pub(super) fn flip(&self) -> Option<String> {
        let state = &mut *self.state();
        let used = |file: &u64| state.files[file].used();
        let used: Vec<_> = state.names.iter().filter(|(_, file)| used(file) > 0).collect();
        let (name, file) = *used.get(state.chance.random_range(0..used.len().max(1)))?;
        let at = state.chance.random_range(0..state.files[file].used());
        let bit = 1 << state.chance.random_range(0..8);
        let flipped = format!("bit {bit:#x} of byte {at} in {}", name.display());
        state.files.get_mut(file)?.flip(at, bit);
        state.show();
        Some(flipped)
    }
}

impl Name {
    fn make(self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Made(path, file) => names.insert(path, file),
            Self::Removed(path) => names.remove(&path),
        };
    }
}

impl State {
    fn mend(&mut self) {
        self.power_until = u64::MAX;
        self.fault = None;
        self.failed = false;
    }

    /// Lets the real files be what is read.
    fn show(&self) {
        for file in fs::read_dir(&self.dir).into_iter().flatten() {
            fs::remove_file(file.unwrap().path()).unwrap();
        }
        for (path, file) in &self.names {
            fs::write(path, self.files[file].bytes()).unwrap();
        }
    }

    /// Begins an operation. Whether the power goes meanwhile: then its caller never
    /// hears of it, but it may have been done.
    fn begin(&mut self, operation: Operation) -> io::Result<bool> {
        if self.operations > self.power_until {
            return Err(no_power());
        }
        self.operations += 1;
        match &mut self.fault {
            Some((fails, after, what)) if *fails == operation => {
                if *after == 0 {
                    let what = *what;
                    self.failed |= operation != Operation::Allocate;
                    self.fault = None;
                    return Err(io::Error::other(what));
                }
                *after -= 1;
            }
            _ => {}
        }
        Ok(self.operations > self.power_until)
    }

    fn file(&self, path: &Path) -> io::Result<u64> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn content(&mut self, file: u64) -> &mut Content {
        self.files.get_mut(&file).unwrap()
    }
}

fn no_power() -> io::Error {
    io::Error::other("there is no power")
}

fn unless(power_goes: bool) -> io::Result<()> {
    if power_goes { Err(no_power()) } else { Ok(()) }
}

impl Disk for FaultyDisk {
    fn flush_folder(&self, dir: &Path) -> io::Result<()> {
        let state = &mut *self.state();
        unless(state.begin(Operation::Folder)?)?;
        if dir == state.dir {
            state.changed.clear();
            state.names_on_disk = state.names.clone();
        } else {
            state.folder_on_disk = true;
        }
        Ok(())
    }

    fn settle(&self, path: &Path) -> io::Result<()> {
        // The lock is no file of the log.
        let Ok(file) = self.state().file(path) else { return Ok(()) };
        OpenFile { disk: self.clone(), file }.sync()?;
        let mut state = self.state();
        state.content(file).forget();
        fs::write(path, state.files[&file].bytes())
    }
}

impl FileSystem for FaultyDisk {
    type Handle = OpenFile;
    type Reader = Cursor;
    type Writer = Cursor;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<OpenFile> {
        let path = path.as_ref();
        let state = &mut *self.state();
        let power_goes = state.begin(Operation::Create)?;
        assert!(!state.names.contains_key(path), "raft-engine makes new files only");
        let file = state.operations;
        state.files.insert(file, Content::default());
        state.names.insert(path.to_owned(), file);
        state.changed.push(Name::Made(path.to_owned(), file));
        fs::write(path, [])?;
        unless(power_goes)?;
        Ok(OpenFile { disk: self.clone(), file })
    }

    fn open<P: AsRef<Path>>(&self, path: P, _: Permission) -> io::Result<OpenFile> {
        let mut state = self.state();
        unless(state.begin(Operation::Open)?)?;
        Ok(OpenFile { disk: self.clone(), file: state.file(path.as_ref())? })
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        let path = path.as_ref();
        let state = &mut *self.state();
        let power_goes = state.begin(Operation::Delete)?;
        state.names.remove(path);
        state.changed.push(Name::Removed(path.to_owned()));
        fs::remove_file(path)?;
        unless(power_goes)
    }

    fn rename<P: AsRef<Path>>(&self, from: P, _: P) -> io::Result<()> {
        panic!("no file is used again: {}", from.as_ref().display());
    }

    fn new_reader(&self, handle: Arc<OpenFile>) -> io::Result<Cursor> {
        Ok(Cursor { handle, at: 0 })
    }

    fn new_writer(&self, handle: Arc<OpenFile>) -> io::Result<Cursor> {
        Ok(Cursor { handle, at: 0 })
    }
}

pub(super) struct OpenFile {
    disk: FaultyDisk,
    file: u64,
}

impl OpenFile {
    fn change(&self, operation: Operation, change: impl FnOnce(&mut Content)) -> io::Result<()> {
        let mut state = self.disk.state();
        let power_goes = state.begin(operation)?;
        change(state.content(self.file));
        unless(power_goes)
    }
}

impl Handle for OpenFile {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        self.change(Operation::Truncate, |content| content.truncate(offset))
    }

    fn file_size(&self) -> io::Result<usize> {
        Ok(self.disk.state().content(self.file).bytes().len())
    }

    fn sync(&self) -> io::Result<()> {
        let state = &mut *self.disk.state();
        let had_power = state.operations <= state.power_until;
        let began = state.begin(Operation::Sync);
        let content = state.files.get_mut(&self.file).unwrap();
        match began {
            Ok(false) => content.flush(),
            Err(_) if had_power => content.fail_flush(&mut state.chance),
            _ => {}
        }
        unless(began?)
    }
}

pub(super) struct Cursor {
    handle: Arc<OpenFile>,
    at: usize,
}

impl Seek for Cursor {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Start(at) = to else { panic!("raft-engine seeks from the start only") };
        self.at = usize::try_from(at).unwrap();
        Ok(at)
    }
}

impl Read for Cursor {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.handle.disk.state();
        unless(state.begin(Operation::Read)?)?;
        let bytes = state.content(self.handle.file).bytes();
        let length = bytes.get(self.at..).unwrap_or_default().read(buffer)?;
        self.at += length;
        Ok(length)
    }
}

impl Write for Cursor {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let state = &mut *self.handle.disk.state();
        let had_power = state.operations <= state.power_until;
        let began = state.begin(Operation::Write);
        let failed = began.is_err() && had_power;
        let length = if failed { state.chance.random_range(0..bytes.len()) } else { bytes.len() };
        if had_power {
            state.content(self.handle.file).write(self.at, &bytes[..length]);
        }
        unless(began?)?;
        self.at += length;
        Ok(length)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl WriteExt for Cursor {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        self.at = offset;
        self.handle.truncate(offset)
    }

    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        self.handle.change(Operation::Allocate, |content| content.extend(offset + size))
    }
}
