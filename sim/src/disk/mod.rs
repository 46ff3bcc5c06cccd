//! Disks that lose what was not flushed when the power fails, and fail on demand.

pub mod files;
pub mod log;

/// What can be made to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Io {
    /// A write: some of it is there.
    Write,
    /// A flush.
    Flush,
    /// A read.
    Read,
}
