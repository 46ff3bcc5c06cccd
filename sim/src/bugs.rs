//! Known bugs that can be switched on, to see that the simulator finds them. Each is
//! planted at an edge of the real code, where the simulator stands in for the world:
//! nothing of them is in what is released.

use std::{collections::BTreeSet, fmt, str::FromStr};

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bug {
    /// The log counts as flushed before it is.
    AcknowledgesBeforeFlush,
    /// Stored files count as flushed before they are.
    FilesAreNotFlushed,
    /// What followers have of output counts as durable before they have flushed it.
    UnflushedCopiesCount,
    /// A report counts whatever lease it names.
    NoFencing,
    /// A process counts each renewal of its lease twice.
    LeaseCountedTwice,
    /// A new leader counts leases from before its term.
    NewLeaderKeepsOldExpiry,
    /// A process outlives its lease.
    NoLeaseTimer,
    /// A key does not make a repeated submission the same one.
    KeysAreForgotten,
    /// A node answers reads without asking whether it leads.
    StaleReads,
    /// A runner that starts again has forgotten what it holds.
    RunnerForgets,
    /// A cancelled job is started all the same.
    CancelIsNotHeard,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::AcknowledgesBeforeFlush,
        Self::FilesAreNotFlushed,
        Self::UnflushedCopiesCount,
        Self::NoFencing,
        Self::LeaseCountedTwice,
        Self::NewLeaderKeepsOldExpiry,
        Self::NoLeaseTimer,
        Self::KeysAreForgotten,
        Self::StaleReads,
        Self::RunnerForgets,
        Self::CancelIsNotHeard,
    ];

    /// Its name on the command line.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::AcknowledgesBeforeFlush => "acknowledges-before-flush",
            Self::FilesAreNotFlushed => "files-are-not-flushed",
            Self::UnflushedCopiesCount => "unflushed-copies-count",
            Self::NoFencing => "no-fencing",
            Self::LeaseCountedTwice => "lease-counted-twice",
            Self::NewLeaderKeepsOldExpiry => "new-leader-keeps-old-expiry",
            Self::NoLeaseTimer => "no-lease-timer",
            Self::KeysAreForgotten => "keys-are-forgotten",
            Self::StaleReads => "stale-reads",
            Self::RunnerForgets => "runner-forgets",
            Self::CancelIsNotHeard => "cancel-is-not-heard",
        }
    }
}

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// No bug has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no bug `{0}`; `baton-sim bugs` lists them")]
pub struct UnknownBug(String);

impl FromStr for Bug {
    type Err = UnknownBug;

    fn from_str(name: &str) -> Result<Self, UnknownBug> {
        let found = Self::ALL.into_iter().find(|bug| bug.name() == name);
        found.ok_or_else(|| UnknownBug(name.to_owned()))
    }
}

/// Those that are switched on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bugs(BTreeSet<Bug>);

impl Bugs {
    /// Whether this one is.
    #[must_use]
    pub fn has(&self, bug: Bug) -> bool {
        self.0.contains(&bug)
    }
}

impl FromIterator<Bug> for Bugs {
    fn from_iter<T: IntoIterator<Item = Bug>>(bugs: T) -> Self {
        Self(bugs.into_iter().collect())
    }
}
