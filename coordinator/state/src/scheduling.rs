//! Whether a runner is given jobs: what an operator said about that, beside what the
//! runner says of itself.

use serde::{Deserialize, Serialize};

use crate::ids::Timestamp;

/// Somebody keeps new jobs from a runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cordon {
    /// Who.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
    /// What becomes of the jobs it has, when it is to be emptied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drain: Option<Drain>,
}

/// A runner is being emptied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drain {
    /// Until when its jobs may go on; none: until their end.
    pub deadline: Option<Timestamp>,
    /// What happens then to those that still run.
    pub then: AtDeadline,
    /// That has been done.
    pub overdue: bool,
}

impl Drain {
    /// When something is to be done about its jobs.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        self.deadline.filter(|_| !self.overdue && self.then != AtDeadline::Wait)
    }
}

/// What happened to whether a runner is given jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SchedulingChange {
    /// It gets no new jobs.
    Cordoned,
    /// It is being emptied.
    Draining {
        /// As in [`Drain`].
        deadline: Option<Timestamp>,
        /// As in [`Drain`].
        then: AtDeadline,
    },
    /// The deadline of its drain is over.
    DeadlineOver {
        /// What happens to the jobs that it still has.
        then: AtDeadline,
    },
    /// It gets jobs again.
    Resumed,
}

/// What becomes of jobs that still run at the deadline of a drain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum AtDeadline {
    /// They go on to their end.
    #[default]
    Wait,
    /// They are stopped and wait for another runner, unless they must not run twice.
    Requeue,
    /// They are cancelled.
    Cancel,
}
