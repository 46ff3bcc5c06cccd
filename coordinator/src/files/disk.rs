//! The few operations on disk that the other modules share. All block.
//!
//! Those that a crash could undo, or whose failure must not go unnoticed, go through
//! [`Disk`], so that a simulation can do both.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::FileExt as _,
    path::Path,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::error::{FilesError, Result};

/// How a store changes its files and keeps the changes. A path is what the file is
/// called at that moment.
///
/// Reading does not go through it, nor what may get lost at any time: the digests that
/// are kept beside sealed logs, and the times of files.
pub trait Disk: fmt::Debug + Send + Sync {
    /// Makes an empty file, to be read and written.
    ///
    /// # Errors
    /// Those of the system; also when there is a file already.
    fn create(&self, path: &Path) -> io::Result<File>;

    /// Writes all the bytes at a place of a file.
    ///
    /// # Errors
    /// Those of the system. Some of the bytes may be written.
    fn write_all_at(&self, path: &Path, file: &File, bytes: &[u8], offset: u64) -> io::Result<()>;

    /// Cuts a file off after so many bytes.
    ///
    /// # Errors
    /// Those of the system.
    fn set_len(&self, path: &Path, file: &File, length: u64) -> io::Result<()>;

    /// Makes a file's bytes and its length survive a crash.
    ///
    /// # Errors
    /// Those of the system. What was written since the last time may be lost then.
    fn sync_data(&self, path: &Path, file: &File) -> io::Result<()>;

    /// As [`Disk::sync_data`], and what else is known of the file.
    ///
    /// # Errors
    /// As [`Disk::sync_data`].
    fn sync_all(&self, path: &Path, file: &File) -> io::Result<()>;

    /// Makes the names in a folder survive a crash: those that were given and those
    /// that were taken away.
    ///
    /// # Errors
    /// Those of the system.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;

    /// Gives a file another name in the same folder.
    ///
    /// # Errors
    /// Those of the system.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    /// Those of the system; also when there is none.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// The disk of this machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemDisk;

impl Disk for SystemDisk {
    fn create(&self, path: &Path) -> io::Result<File> {
        OpenOptions::new().read(true).write(true).create_new(true).open(path)
    }

    fn write_all_at(&self, _path: &Path, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        file.write_all_at(bytes, offset)
    }

    fn set_len(&self, _path: &Path, file: &File, length: u64) -> io::Result<()> {
        file.set_len(length)
    }

    fn sync_data(&self, _path: &Path, file: &File) -> io::Result<()> {
        file.sync_data()
    }

    fn sync_all(&self, _path: &Path, file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        File::open(folder)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

/// Locks; after a panic elsewhere the data is still what the last whole step left.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes a folder if it is missing; its parent must exist.
pub(super) fn ensure_folder(folder: &Path) -> Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(FilesError::io("create", folder, error)),
    }
}

/// Makes the names in a folder survive a crash.
pub(super) fn sync_folder(disk: &dyn Disk, folder: &Path) -> Result<()> {
    disk.sync_folder(folder).map_err(|error| FilesError::io("sync", folder, error))
}

/// Makes a new file's name in `folder` survive a crash, and the folder's own, which
/// may be as new.
pub(super) fn keep_entry(disk: &dyn Disk, folder: &Path) -> Result<()> {
    sync_folder(disk, folder)?;
    folder.parent().map_or(Ok(()), |parent| sync_folder(disk, parent))
}

/// Opens for reading and writing; `None` when there is no such file.
pub(super) fn open_write(path: &Path) -> Result<Option<File>> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
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
pub(super) fn remove(disk: &dyn Disk, path: &Path) -> Result<bool> {
    match disk.remove(path) {
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
