//! How far a job was when somebody was shown it, so that what is shown later can be
//! compared with that: a job goes on, and never back.

use baton_state::{Job, Phase};

/// How far a job was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shown {
    /// How many attempts it had, and where it was in the life of the last one.
    place: (usize, u8),
    /// Somebody had asked to stop it.
    cancelled: bool,
}

impl Shown {
    /// As the job is.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        let rank = match job.phase {
            Phase::Leased => 0,
            Phase::Running => 1,
            // After an attempt, or before the first one.
            Phase::Queued { not_before: Some(_) } => 2,
            Phase::Queued { not_before: None } => 3,
            Phase::Finished { .. } => 4,
        };
        Self { place: (job.attempts.len(), rank), cancelled: job.cancellation.is_some() }
    }

    /// Whether something of what was shown before is missing.
    #[must_use]
    pub fn is_behind(self, before: Self) -> bool {
        self.place < before.place || (before.cancelled && !self.cancelled)
    }

    /// All that either of the two has.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self { place: self.place.max(other.place), cancelled: self.cancelled || other.cancelled }
    }
}
