//! What a job brings along: what `--source` means, and how an archive that
//! somebody made becomes the one kind of archive that is sent. Folders are
//! [`crate::tree`]'s.
//!
//! Nothing in here talks to a coordinator, and nothing unpacks: an archive is
//! opened by a runner only.

pub(crate) mod amount;
pub mod archive;
mod arg;
pub mod layout;
mod packed;
mod sink;

pub use arg::{JobSource, SourceArg, SourceError, parse};
pub use packed::{DEFAULT_ARCHIVE_LIMIT, PackLimits, PackedSource};
