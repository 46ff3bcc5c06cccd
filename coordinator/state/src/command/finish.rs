//! An attempt is over; most often the job with it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, take_leased};
use crate::{
    artifacts::ArtifactTree,
    event::EventKind,
    ids::{JobId, Lease, Timestamp},
    job::{Final, Job, LogEnd, Outcome, Phase},
    member::Level,
    spec::OnLost,
    state::Applying,
};

/// The wait before the second attempt; it doubles with each further one.
const BACKOFF: u64 = 1_000;

/// The longest wait between attempts.
const BACKOFF_LIMIT: u64 = 60_000;

/// An attempt is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Finish {
    /// Which job.
    pub job: JobId,
    /// Under which lease.
    pub lease: Lease,
    /// When this was proposed.
    pub at: Timestamp,
    /// When the process started, by the runner's clock; none if it never did.
    pub started_at: Option<Timestamp>,
    /// When the attempt ended, by the runner's clock.
    pub finished_at: Timestamp,
    /// How.
    pub outcome: Outcome,
    /// The complete output, if it is.
    pub log: Option<LogEnd>,
    /// An error that another attempt may not meet.
    pub transient: bool,
    /// What was kept of the work folder, if all of it is stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<ArtifactTree>,
}

impl Finish {
    /// The first level that knows all of it.
    pub(super) fn level(&self) -> Level {
        if self.artifacts.is_some() { Level(3) } else { self.outcome.level() }
    }
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: Finish) -> Result<Reply, Refusal> {
    let mut job = take_leased(ctx, command.job, command.lease)?;
    if let Some(attempt) = job.attempts.last_mut() {
        attempt.started_at = attempt.started_at.or(command.started_at);
        attempt.finished_at = Some(command.finished_at);
        attempt.outcome = Some(command.outcome.clone());
        attempt.log = command.log;
        attempt.artifacts = command.artifacts;
    }
    if job.is_recalled() && command.outcome.state == Final::Cancelled && job.cancellation.is_none()
    {
        give_back(ctx, job, command.outcome);
        return Ok(Reply::Done);
    }
    if command.outcome.state == Final::Lost {
        lost(ctx, job, command.outcome);
        return Ok(Reply::Done);
    }
    let again =
        command.transient && command.outcome.state == Final::Error && job.cancellation.is_none();
    if again {
        let delay = backoff(job.attempts_used());
        requeue_or_end(ctx, job, command.outcome, Some(command.at.plus(delay)));
    } else {
        end(ctx, job, command.outcome, false);
    }
    Ok(Reply::Done)
}

/// Milliseconds to wait after the `attempts`th attempt failed.
fn backoff(attempts: usize) -> u64 {
    let doublings = u32::try_from(attempts.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    (BACKOFF << doublings).min(BACKOFF_LIMIT)
}

/// Queues a job again whose last attempt ended like `outcome`, or makes it a
/// dead letter when its attempts are used up.
fn requeue_or_end(
    ctx: &mut Applying<'_>,
    mut job: Job,
    outcome: Outcome,
    not_before: Option<Timestamp>,
) {
    if job.attempts_used() >= job.spec.attempts as usize {
        end(ctx, job, outcome, true);
        return;
    }
    let id = job.id;
    let last = job.attempts.last().map(|attempt| (attempt.lease, attempt.runner.clone()));
    job.phase = Phase::Queued { not_before };
    ctx.state.put(job);
    if let Some((lease, runner)) = last {
        ctx.emit(EventKind::JobRequeued { job: id, lease, runner, outcome });
    }
}

/// An attempt that was asked for brings the proof that nothing of it is left.
fn give_back(ctx: &mut Applying<'_>, mut job: Job, mut outcome: Outcome) {
    outcome.reason = "DRAINED".to_owned();
    outcome.message = "stopped because its runner was drained".to_owned();
    if let Some(attempt) = job.attempts.last_mut() {
        attempt.outcome = Some(outcome.clone());
    }
    requeue_or_end(ctx, job, outcome, None);
}

/// The attempt's runner, or what watched over the process there, is lost: what
/// happens next is the job's own policy.
pub(super) fn lost(ctx: &mut Applying<'_>, job: Job, mut outcome: Outcome) {
    if job.cancellation.is_some() {
        outcome.state = Final::Cancelled;
        end(ctx, job, outcome, false);
    } else if job.spec.on_lost == OnLost::Requeue {
        requeue_or_end(ctx, job, outcome, None);
    } else {
        end(ctx, job, outcome, false);
    }
}

/// Ends a job.
pub(super) fn end(ctx: &mut Applying<'_>, mut job: Job, outcome: Outcome, dead_letter: bool) {
    job.phase = Phase::Finished { at: ctx.at, index: ctx.index, outcome, dead_letter };
    let job = Arc::new(job);
    ctx.state.put(Arc::clone(&job));
    ctx.emit(EventKind::JobFinished { job });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backoff_doubles_up_to_its_limit() {
        assert_eq!([1, 2, 3, 4].map(backoff), [1_000, 2_000, 4_000, 8_000]);
        assert_eq!(backoff(100), BACKOFF_LIMIT);
    }
}
