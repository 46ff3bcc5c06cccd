//! The few operations on disk that the other modules share. All block.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::task::JoinError;

use super::error::{FilesError, Result};

/// Locks; after a panic elsewhere the data is still what the last whole step left.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs what blocks on a thread where that does no harm.
///
/// # Errors
/// Those of `work`, and [`FilesError::Stopping`] when the runtime ends first.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    joined(tokio::task::spawn_blocking(work).await)
}

/// The result of a task that was started to block.
///
/// # Errors
/// As [`blocking`].
pub(super) fn joined<T>(result: Result<Result<T>, JoinError>) -> Result<T> {
    match result {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Err(FilesError::Stopping),
    }
}

/// Makes a folder if it is missing; its parent must exist.
pub(super) fn ensure_folder(folder: &Path) -> Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(FilesError::io("create", folder, error)),
    }
}

/// Makes the entries of a folder survive a crash.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| FilesError::io("sync", folder, error))
}

/// Opens for reading and writing; `None` when there is no such file.
pub(super) fn open_write(path: &Path, create: bool) -> Result<Option<File>> {
    match OpenOptions::new().read(true).write(true).create_new(create).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound && !create => Ok(None),
        Err(error) => Err(FilesError::io("open", path, error)),
    }
}

/// Opens for reading; `None` when there is no such file.
pub(super) fn open_read(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FilesError::io("open", path, error)),
    }
}

/// What the file system says of a file; `None` when there is no such file.
pub(super) fn metadata(path: &Path) -> Result<Option<fs::Metadata>> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(Some(metadata)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(FilesError::io("look at", path, error)),
    }
}

/// Removes a file, and says whether there was one.
pub(super) fn remove(path: &Path) -> Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(FilesError::io("remove", path, error)),
    }
}

/// Reads at most `want` bytes at `position`; fewer only at the end of the file.
pub(super) fn read_at(file: &File, position: u64, want: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; want];
    let mut done = 0;
    while done < want {
        match file.read_at(&mut bytes[done..], position + done as u64) {
            Ok(0) => break,
            Ok(read) => done += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

/// A place in a file that several readers share: never moves the file's own.
#[derive(Debug)]
pub(super) struct At<'a> {
    file: &'a File,
    position: u64,
}

impl<'a> At<'a> {
    pub(super) const fn new(file: &'a File, position: u64) -> Self {
        Self { file, position }
    }
}

impl Read for At<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read_at(buf, self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for At<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
