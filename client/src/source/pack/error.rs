//! Why a folder cannot be packed, in words that say what to do about it.

use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;

use super::super::amount::Amount;
use super::super::layout::{LayoutFault, MAX_ENTRIES};

/// Why a folder could not be packed. Paths are relative to the folder, unless
/// said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The folder itself cannot be opened, or is none.
    #[error("cannot pack {}: {source}{}", path.display(), other_kind(source))]
    Folder {
        /// The folder as given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A folder below cannot be listed.
    #[error("cannot list the source: {0}")]
    Walk(#[source] ignore::Error),
    /// A pattern in a `.batonignore` cannot be understood.
    #[error("a pattern in .batonignore is wrong: {0}")]
    Pattern(#[source] ignore::Error),
    /// An entry that the runner would refuse.
    #[error("cannot pack {}: {fault}", path.display())]
    Layout {
        /// The entry.
        path: PathBuf,
        /// What is wrong with it.
        fault: LayoutFault,
    },
    /// A socket, a pipe or a device.
    #[error("cannot pack {}: it is a {kind}; list it in .batonignore", path.display())]
    Special {
        /// The entry.
        path: PathBuf,
        /// "socket", "pipe" or "device".
        kind: &'static str,
    },
    /// A file or link that cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The entry.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that became another between listing and reading.
    #[error("{} changed while it was being packed; try again when nothing writes to it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// An entry that went away between listing and reading.
    #[error("{} vanished while the folder was being packed", path.display())]
    Vanished {
        /// The entry.
        path: PathBuf,
    },
    /// More entries than an archive may have.
    #[error("the source has more than {MAX_ENTRIES} entries; leave some out with .batonignore")]
    Entries,
    /// The files add up to more than a runner would unpack.
    #[error("the source is too large: its files have {} and {} is the limit; leave files out with .batonignore{}",
        Amount(*size), Amount(*limit), Listed(largest))]
    Unpacked {
        /// Bytes of all files.
        size: u64,
        /// The limit, in bytes.
        limit: u64,
        /// The largest files, largest first.
        largest: Vec<SizedPath>,
    },
    /// The archive outgrew its limit.
    #[error("the source archive is too large: {} so far and {} is the limit; leave files out with .batonignore{}",
        Amount(*size), Amount(*limit), Listed(largest))]
    Archive {
        /// Compressed bytes so far.
        size: u64,
        /// The limit, in compressed bytes.
        limit: u64,
        /// The largest files, largest first.
        largest: Vec<SizedPath>,
    },
    /// The archive's temporary file cannot be written.
    #[error("cannot write the source archive to a temporary file: {0}")]
    Temporary(#[source] io::Error),
    /// The caller asked to stop.
    #[error("packing was cancelled")]
    Cancelled,
}

fn other_kind(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotADirectory => "; a tar archive is brought with archive:FILE",
        _ => "",
    }
}

/// A file and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SizedPath {
    /// Relative to the packed folder.
    pub path: PathBuf,
    /// Bytes.
    pub size: u64,
}

struct Listed<'a>(&'a [SizedPath]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return Ok(());
        }
        f.write_str(". The largest files are")?;
        for (place, file) in self.0.iter().enumerate() {
            f.write_char(if place == 0 { ' ' } else { ',' })?;
            if place > 0 {
                f.write_char(' ')?;
            }
            write!(f, "{} ({})", file.path.display(), Amount(file.size))?;
        }
        Ok(())
    }
}
