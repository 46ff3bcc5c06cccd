//! Why a folder cannot be brought, in words that say what to do about it.

use std::fmt::{self, Write as _};
use std::io;
use std::path::PathBuf;

use super::TreeFault;
use crate::source::amount::Amount;
use crate::source::layout::{LayoutFault, MAX_ENTRIES, entry::Refusal};

/// Why a folder could not be brought. Paths are relative to the folder, unless
/// said otherwise.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The folder itself cannot be opened, or is none.
    #[error("cannot bring {}: {source}{}", path.display(), other_kind(source))]
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
    #[error("cannot bring {}: {fault}", path.display())]
    Layout {
        /// The entry.
        path: PathBuf,
        /// What is wrong with it.
        fault: LayoutFault,
    },
    /// A socket, a pipe or a device.
    #[error("cannot bring {}: it is a {kind}; list it in .batonignore", path.display())]
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
    #[error("{} changed while it was being read; try again when nothing writes to it", path.display())]
    Changed {
        /// The file.
        path: PathBuf,
    },
    /// An entry that went away between listing and reading.
    #[error("{} vanished while the folder was being read", path.display())]
    Vanished {
        /// The entry.
        path: PathBuf,
    },
    /// More entries than a tree may have.
    #[error("the source has more than {MAX_ENTRIES} entries; leave some out with .batonignore")]
    Entries,
    /// The files add up to more than a runner would take.
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
    /// An entry that the runner would refuse for what is around it.
    #[error("cannot bring {}: {reason}", path.display())]
    Refused {
        /// The entry.
        path: PathBuf,
        /// What is wrong with it.
        reason: Refusal,
    },
    /// Something that no folder should lead to.
    #[error("cannot make a tree of the folder: {0}")]
    Tree(#[source] TreeFault),
    /// The caller asked to stop.
    #[error("reading the folder was cancelled")]
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
    /// Relative to the folder.
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
