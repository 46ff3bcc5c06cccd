//! Disks that lose what was not flushed when the power fails, and fail on demand.

pub mod files;
pub mod log;
