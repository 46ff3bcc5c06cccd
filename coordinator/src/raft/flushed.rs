//! Makes sure that what is read of the log's files is on disk.
//!
//! Whoever wrote them may have been killed before its flush. They read as if they
//! were on disk, this node vouches to others for what is in them, and a loss of power
//! takes it back. After a flush that failed, Linux even counts what it could not write
//! as written, and goes on showing it. So every file is flushed, and read anew from
//! the disk.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use raft_engine::env::{DefaultFileSystem, FileSystem};

/// A file system that can say when something is on disk.
pub(super) trait Disk: FileSystem + 'static {
    /// The names in a folder are on disk when this returns.
    fn flush_folder(&self, dir: &Path) -> io::Result<()>;

    /// What is read of a file from now on is what is on disk.
    fn settle(&self, file: &Path) -> io::Result<()>;
}

impl Disk for DefaultFileSystem {
    fn flush_folder(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }

    fn settle(&self, file: &Path) -> io::Result<()> {
        let file = File::open(file)?;
        file.sync_all()?;
        Ok(posix_fadvise(&file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED)?)
    }
}

/// Settles every file of a folder, if there is one, and its names.
pub(super) fn settle(disk: &impl Disk, dir: &Path) -> io::Result<()> {
    if !dir.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            disk.settle(&entry.path())?;
        }
    }
    disk.flush_folder(dir)
}
