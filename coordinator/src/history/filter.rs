//! Which jobs a list shows. The same meaning for jobs in memory
//! ([`JobFilter::matches`]) and for those in SQL (`sql/list.rs`); a test
//! compares the two.

use std::collections::BTreeSet;

use baton_state::{Final, Job, JobId, Phase, Timestamp};

/// The latest time a job id can carry: 48 bits of milliseconds.
const LATEST: Timestamp = Timestamp((1 << 48) - 1);

/// Which jobs to show. The default shows all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct JobFilter {
    /// Only these projects; all when empty.
    pub projects: BTreeSet<String>,
    /// Only these states; all when empty.
    pub states: BTreeSet<JobState>,
    /// Only jobs with an attempt on the runner of this id or name.
    pub runner: Option<String>,
    /// Only jobs that ask for all of these labels.
    pub labels: BTreeSet<String>,
    /// Only jobs whose name contains this, upper and lower case alike. At most
    /// 10,000 bytes.
    pub text: String,
    /// Only jobs with an id from this time or later.
    pub submitted_after: Option<Timestamp>,
    /// Only jobs with an id from before this time.
    pub submitted_before: Option<Timestamp>,
    /// Only jobs that used up their attempts.
    pub dead_letters: bool,
}

/// The state of a job, as lists show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum JobState {
    /// It waits for a runner.
    Queued,
    /// A runner has it, without a process yet.
    Leased,
    /// Its process runs.
    Running,
    /// It has ended like this.
    Finished(Final),
}

impl JobState {
    /// The state of `job`.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        match &job.phase {
            Phase::Queued { .. } => Self::Queued,
            Phase::Leased => Self::Leased,
            Phase::Running => Self::Running,
            Phase::Finished { outcome, .. } => Self::Finished(outcome.state),
        }
    }
}

/// A filter that is ready to be held against many jobs.
#[derive(Debug)]
pub struct Matcher<'a> {
    filter: &'a JobFilter,
    text: String,
}

impl Matcher<'_> {
    /// Whether the list shows this job.
    #[must_use]
    pub fn matches(&self, job: &Job) -> bool {
        let filter = self.filter;
        (filter.states.is_empty() || filter.states.contains(&JobState::of(job)))
            && filter.runner.as_deref().is_none_or(|runner| ran_on(job, runner))
            && (!filter.dead_letters || is_dead_letter(job))
            && self.may_have_matched(job)
    }

    /// Whether the list shows this job at some time of its life, as far as what it was
    /// submitted with decides that.
    pub(crate) fn may_have_matched(&self, job: &Job) -> bool {
        let filter = self.filter;
        let among_ids = filter.first_id() <= job.id && job.id < filter.end_id();
        among_ids
            && (filter.projects.is_empty() || filter.projects.contains(&job.spec.project))
            && filter.labels.is_subset(&job.spec.requirements.labels)
            && (self.text.is_empty() || fold(&job.spec.name).contains(&self.text))
    }
}

impl JobFilter {
    /// The filter, ready to be held against many jobs.
    #[must_use]
    pub fn matcher(&self) -> Matcher<'_> {
        Matcher { filter: self, text: fold(&self.text) }
    }

    /// The lowest id it shows.
    pub(super) fn first_id(&self) -> JobId {
        JobId::first_at(self.submitted_after.unwrap_or_default().min(LATEST))
    }

    /// The lowest id that is too new for it.
    pub(super) fn end_id(&self) -> JobId {
        match self.submitted_before {
            Some(before) if before <= LATEST => JobId::first_at(before),
            _ => JobId::MAX,
        }
    }
}

fn ran_on(job: &Job, runner: &str) -> bool {
    job.attempts.iter().any(|attempt| attempt.runner.0 == runner || attempt.runner_name == runner)
}

pub(super) fn is_dead_letter(job: &Job) -> bool {
    matches!(job.phase, Phase::Finished { dead_letter: true, .. })
}

/// A text for comparison without regard to case. By way of upper case, so that
/// ß meets SS and the two forms of the small sigma meet each other. NUL goes,
/// because SQL takes it for the end of a text.
pub(super) fn fold(text: &str) -> String {
    text.chars()
        .filter(|&character| character != '\0')
        .flat_map(char::to_uppercase)
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::fold;

    #[test]
    fn upper_and_lower_case_are_alike_beyond_ascii() {
        for (one, other) in [("Build", "bUILD"), ("GRÜSSE", "grüße"), ("ΟΔΟΣ", "οδος")] {
            assert_eq!(fold(one), fold(other));
        }
        assert_ne!(fold("u"), fold("ü"));
    }
}
