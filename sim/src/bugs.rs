//! Known bugs that can be switched on, to see that the simulator finds them. Each is
//! planted at an edge of the real code, where the simulator stands in for the world:
//! nothing of them is in what is released.

use std::{collections::BTreeSet, fmt, str::FromStr};

use crate::invariants as of;

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
    /// A coordinator acknowledges a cancellation, and carries it out later.
    CancelIsNotHeard,
    /// A coordinator tells a runner to run what another one was told to run.
    LeaseIsGivenTwice,
    /// A coordinator takes a runner for larger than it is.
    SlotsAreMiscounted,
    /// A coordinator gives a job more attempts than were asked for.
    AttemptsAreGiven,
    /// A submission has another time in the log of another coordinator.
    TimesChange,
    /// A result is another one in the log of another coordinator.
    ResultsChange,
    /// The history has a job otherwise than the state.
    HistoryIsToldOtherwise,
    /// A job that has left the state is not looked for in the history.
    HistoryIsNotAsked,
    /// Some reports of an end are never heard, however often they are sent.
    ReportsAreLost,
}

impl Bug {
    /// All of them.
    pub const ALL: [Self; 19] = [
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
        Self::LeaseIsGivenTwice,
        Self::SlotsAreMiscounted,
        Self::AttemptsAreGiven,
        Self::TimesChange,
        Self::ResultsChange,
        Self::HistoryIsToldOtherwise,
        Self::HistoryIsNotAsked,
        Self::ReportsAreLost,
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
            Self::LeaseIsGivenTwice => "lease-is-given-twice",
            Self::SlotsAreMiscounted => "slots-are-miscounted",
            Self::AttemptsAreGiven => "attempts-are-given",
            Self::TimesChange => "times-change",
            Self::ResultsChange => "results-change",
            Self::HistoryIsToldOtherwise => "history-is-told-otherwise",
            Self::HistoryIsNotAsked => "history-is-not-asked",
            Self::ReportsAreLost => "reports-are-lost",
        }
    }

    /// The names of the invariants that it breaks; that another one does not hold, or
    /// that the simulator itself fails, is not to have found it.
    #[must_use]
    pub fn found_by(self) -> &'static [&'static str] {
        match self {
            // A node whose log lacks what it had committed says so, and does not start.
            Self::AcknowledgesBeforeFlush => &[of::acknowledged::INVARIANT.name, of::SURVIVED],
            Self::KeysAreForgotten => &[of::acknowledged::INVARIANT.name],
            Self::FilesAreNotFlushed | Self::UnflushedCopiesCount => &[of::output::INVARIANT.name],
            // A job that a stale report has ended is started all the same.
            Self::NoFencing => &[of::fenced::INVARIANT.name, of::cancelled::INVARIANT.name],
            Self::LeaseCountedTwice
            | Self::NewLeaderKeepsOldExpiry
            | Self::NoLeaseTimer
            | Self::RunnerForgets => &[of::exclusive::INVARIANT.name],
            Self::StaleReads => &[of::reads::INVARIANT.name],
            Self::CancelIsNotHeard => &[of::cancelled::INVARIANT.name],
            Self::LeaseIsGivenTwice => &[of::leases::INVARIANT.name],
            Self::SlotsAreMiscounted => &[of::slots::INVARIANT.name],
            Self::AttemptsAreGiven => &[of::attempts::INVARIANT.name],
            Self::TimesChange => &[of::states::INVARIANT.name],
            Self::ResultsChange => &[of::ends::INVARIANT.name],
            Self::HistoryIsToldOtherwise => &[of::history::INVARIANT.name],
            Self::HistoryIsNotAsked => &[of::refused::INVARIANT.name],
            Self::ReportsAreLost => &[of::progress::INVARIANT.name],
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bug_is_aimed_at_every_invariant() {
        let aimed: BTreeSet<_> = Bug::ALL.iter().map(|bug| bug.found_by()[0]).collect();
        for invariant in &of::ALL {
            assert!(aimed.contains(invariant.name), "none at: {}", invariant.name);
        }
    }
}
