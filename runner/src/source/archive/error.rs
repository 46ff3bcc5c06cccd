//! Why an archive was not unpacked, and whose fault it is.

use std::io;
use std::path::PathBuf;

use baton_client::source::layout::entry::Refusal;
use baton_client::source::layout::meter::StreamFault;

/// Why an archive could not be unpacked.
#[derive(Debug, thiserror::Error)]
pub enum UnpackError {
    /// It is no whole `tar.zst`: cut off, altered, or followed by something.
    #[error("the archive is damaged: {0}")]
    Damaged(String),
    /// One of its entries is not accepted.
    #[error("archive entry {entry} is refused: {reason}")]
    Refused {
        /// The entry's name, quoted, cut to a bearable length.
        entry: String,
        /// What is wrong with it.
        reason: Refusal,
    },
    /// It unpacks to more than [`super::UnpackLimits::bytes`].
    #[error("the archive unpacks to more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// It has more entries than [`super::UnpackLimits::entries`].
    #[error("the archive has more than {limit} entries")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// Names and extended headers of one entry are larger than any real ones.
    #[error("the archive has an entry with more than {limit} bytes of headers")]
    Headers {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The archive's bytes could not be read.
    #[error("cannot read the archive: {0}")]
    Read(#[source] io::Error),
    /// The destination cannot be used, or is not empty.
    #[error("cannot unpack into {}: {source}", path.display())]
    Destination {
        /// The folder as given.
        path: PathBuf,
        /// What is wrong with it.
        source: io::Error,
    },
    /// An entry could not be written, for a reason that lies in this machine.
    #[error("cannot unpack {entry}: {source}")]
    Write {
        /// The entry's name, quoted, cut to a bearable length.
        entry: String,
        /// What the system said.
        source: io::Error,
    },
    /// The caller asked to stop.
    #[error("unpacking was cancelled")]
    Cancelled,
}

impl UnpackError {
    /// Whether the fault is in the archive, so that no other attempt and no
    /// other runner can succeed with it.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Damaged(_)
            | Self::Refused { .. }
            | Self::TooLarge { .. }
            | Self::TooManyEntries { .. }
            | Self::Headers { .. } => true,
            Self::Read(_) | Self::Destination { .. } | Self::Write { .. } | Self::Cancelled => {
                false
            }
        }
    }
}

impl From<StreamFault> for UnpackError {
    fn from(fault: StreamFault) -> Self {
        match fault {
            StreamFault::Damaged(what) => Self::Damaged(what),
            StreamFault::TooLarge { limit } => Self::TooLarge { limit },
            StreamFault::Headers { limit } => Self::Headers { limit },
            StreamFault::Read(source) => Self::Read(source),
            StreamFault::Cancelled => Self::Cancelled,
        }
    }
}
