//! What a job brings along: what `--source` means, and how a folder or an
//! archive that somebody made becomes the one kind of archive that is sent.
//!
//! Nothing in here talks to a coordinator, and nothing unpacks: an archive is
//! opened by a runner only.

mod amount;
pub mod archive;
mod arg;
pub mod layout;
mod pack;
mod sink;

pub use arg::{JobSource, SourceArg, SourceError, parse};
pub use pack::{
    DEFAULT_ARCHIVE_LIMIT, PackError, PackLimits, PackProgress, PackedSource, SizedPath, pack,
};
