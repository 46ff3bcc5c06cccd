//! Disks that lose what was not flushed when the power fails, fail on demand, and rot.

pub mod files;
pub mod log;
pub mod rot;

use std::io;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// A write: some of it is there.
    Write,
    /// A flush.
    Flush,
    /// A read.
    Read,
    /// Making a file.
    Create,
    /// Giving a file another name.
    Rename,
    /// A flush of the names in a folder.
    FlushFolder,
}

/// What is not there need not be removed.
pub(crate) fn gone(removed: io::Result<()>) -> io::Result<()> {
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
