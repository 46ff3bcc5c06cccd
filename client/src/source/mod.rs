//! The folder a job brings along: what `--source` means, and how a folder
//! becomes one compressed archive.
//!
//! Nothing in here talks to a coordinator, and nothing unpacks: an archive is
//! opened by a runner only.

mod arg;
pub mod layout;
mod pack;

pub use arg::{SourceArg, SourceError, parse};
pub use pack::{
    DEFAULT_ARCHIVE_LIMIT, PackError, PackLimits, PackProgress, PackedSource, SizedPath, pack,
};
