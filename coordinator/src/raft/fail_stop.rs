//! A file system that changes nothing any more after its first failure.
//!
//! raft-engine goes on after some: it takes what it could not read near the log's end
//! for a write that was cut short, and cuts it off; what it could not write it tries
//! again in another file. At a flush that fails it panics, and again when it is
//! dropped. Here the first failure is kept, and whoever opens or writes has to ask for
//! it: until then a flush only seems to have been one.
//!
//! raft-engine makes the log's first file without flushing the folder that names it.
//! Here every new file is on disk under its name before anything is written to it.

use std::{
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{Arc, OnceLock},
};

use raft_engine::env::{FileSystem, Handle, Permission, WriteExt};

use super::flushed::Disk;

/// The first thing that failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot {action}: {detail}")]
pub(super) struct Failure {
    action: &'static str,
    detail: String,
}

#[derive(Debug, Default)]
struct Stop(OnceLock<Failure>);

impl Stop {
    fn check(&self) -> Result<(), Failure> {
        self.0.get().map_or(Ok(()), |failure| Err(failure.clone()))
    }

    /// Does something, unless something has failed before.
    fn attempt<T>(
        &self,
        action: &'static str,
        work: impl FnOnce() -> io::Result<T>,
    ) -> io::Result<T> {
        self.check().map_err(io::Error::other)?;
        work().inspect_err(|error| self.fail(action, error))
    }

    fn fail(&self, action: &'static str, error: &dyn std::error::Error) {
        // A later failure follows from the first.
        let _ = self.0.set(Failure { action, detail: error.to_string() });
    }
}

/// A disk until its first failure.
pub(super) struct FailStop<D> {
    disk: Arc<D>,
    stop: Arc<Stop>,
}

impl<D: Disk> FailStop<D> {
    pub(super) fn new(disk: Arc<D>) -> Self {
        Self { disk, stop: Arc::default() }
    }

    /// Whether everything has gone well so far.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.stop.check()
    }

    /// The names in a folder are on disk when this returns.
    pub(super) fn flush_folder(&self, dir: &Path) -> io::Result<()> {
        self.stop.attempt("flush a folder", || self.disk.flush_folder(dir))
    }

    /// Something has failed that the disk does not know of.
    pub(super) fn fail(&self, action: &'static str, error: &dyn std::error::Error) {
        self.stop.fail(action, error);
    }
}

impl<D: Disk> FileSystem for FailStop<D> {
    type Handle = OpenFile<D::Handle>;
    type Reader = Cursor<D::Reader>;
    type Writer = Cursor<D::Writer>;

    fn create<P: AsRef<Path>>(&self, path: P) -> io::Result<Self::Handle> {
        let path = path.as_ref();
        let file = self.stop.attempt("make a file", || {
            let file = self.disk.create(path)?;
            path.parent().map_or(Ok(()), |dir| self.disk.flush_folder(dir))?;
            Ok(file)
        })?;
        Ok(OpenFile { file: Arc::new(file), stop: Arc::clone(&self.stop) })
    }

    fn open<P: AsRef<Path>>(&self, path: P, permission: Permission) -> io::Result<Self::Handle> {
        let file = self.stop.attempt("open a file", || self.disk.open(path, permission))?;
        Ok(OpenFile { file: Arc::new(file), stop: Arc::clone(&self.stop) })
    }

    fn delete<P: AsRef<Path>>(&self, path: P) -> io::Result<()> {
        self.stop.attempt("remove a file", || self.disk.delete(path))
    }

    fn rename<P: AsRef<Path>>(&self, from: P, to: P) -> io::Result<()> {
        self.stop.attempt("rename a file", || self.disk.rename(from, to))
    }

    fn new_reader(&self, handle: Arc<Self::Handle>) -> io::Result<Self::Reader> {
        let file = Arc::clone(&handle.file);
        let inner = self.stop.attempt("read a file", || self.disk.new_reader(file))?;
        Ok(Cursor { inner, stop: Arc::clone(&self.stop) })
    }

    fn new_writer(&self, handle: Arc<Self::Handle>) -> io::Result<Self::Writer> {
        let file = Arc::clone(&handle.file);
        let inner = self.stop.attempt("write a file", || self.disk.new_writer(file))?;
        Ok(Cursor { inner, stop: Arc::clone(&self.stop) })
    }
}

pub(super) struct OpenFile<H> {
    file: Arc<H>,
    stop: Arc<Stop>,
}

impl<H: Handle> Handle for OpenFile<H> {
    fn truncate(&self, offset: usize) -> io::Result<()> {
        self.stop.attempt("shorten a file", || self.file.truncate(offset))
    }

    fn file_size(&self) -> io::Result<usize> {
        self.stop.attempt("ask for a file's size", || self.file.file_size())
    }

    /// Never fails, since raft-engine would panic.
    fn sync(&self) -> io::Result<()> {
        let _kept = self.stop.attempt("flush a file", || self.file.sync());
        Ok(())
    }
}

pub(super) struct Cursor<C> {
    inner: C,
    stop: Arc<Stop>,
}

impl<C: Seek> Seek for Cursor<C> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        // Nothing is asked of the disk; raft-engine panics when it fails.
        self.inner.seek(to)
    }
}

impl<C: Read> Read for Cursor<C> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.stop.attempt("read a file", || self.inner.read(buffer))
    }
}

impl<C: Write> Write for Cursor<C> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stop.attempt("write a file", || self.inner.write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stop.attempt("write a file", || self.inner.flush())
    }
}

impl<C: WriteExt> WriteExt for Cursor<C> {
    fn truncate(&mut self, offset: usize) -> io::Result<()> {
        self.stop.attempt("shorten a file", || self.inner.truncate(offset))
    }

    fn allocate(&mut self, offset: usize, size: usize) -> io::Result<()> {
        // Only a hint: what there is no space for fails when it is written.
        self.stop.check().map_err(io::Error::other)?;
        self.inner.allocate(offset, size)
    }
}
