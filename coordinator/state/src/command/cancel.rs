//! Stop a job: at once while it waits, else by its runner, which brings the proof.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, finish::end, history_holds, remember, remember_late, repeated};
use crate::{
    event::EventKind,
    ids::{Index, JobId, Timestamp},
    job::{Cancellation, Final, Job, Outcome, Phase},
    state::{Applying, Request},
};

/// Stop a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cancel {
    /// Which.
    pub job: JobId,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
    /// The idempotency key, if one was given.
    pub request: Option<Request>,
    /// The history was asked about the key as of this entry.
    pub history_seen: Index,
    /// The history has the job: it has ended, and may be gone from the state.
    pub in_history: bool,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: Cancel) -> Result<Reply, Refusal> {
    if let Some(reply) = repeated(ctx, command.request.as_ref())? {
        return Ok(reply);
    }
    if command.request.is_some() {
        history_holds(ctx, command.history_seen)?;
    }
    let ended = ctx.state.job(command.job).map(Job::is_finished);
    match ended.or(command.in_history.then_some(true)) {
        None => Err(Refusal::UnknownJob(command.job)),
        Some(false) => cancel(ctx, command),
        Some(true) => {
            remember_late(ctx, command.job, command.request);
            Ok(Reply::Job(command.job))
        }
    }
}

/// Cancels a job that has not ended.
fn cancel(ctx: &mut Applying<'_>, command: Cancel) -> Result<Reply, Refusal> {
    let mut job = ctx.state.take(command.job).ok_or(Refusal::UnknownJob(command.job))?;
    remember(ctx, &mut job, command.request);
    let first = job.cancellation.is_none();
    if first {
        job.cancellation =
            Some(Cancellation { at: command.at, by: command.by.clone(), reason: command.reason });
    }
    if first && matches!(job.phase, Phase::Queued { .. }) {
        let message = format!("cancelled by {} before it started", command.by);
        let mut outcome = Outcome::without_process(Final::Cancelled, "CANCELLED", message);
        // Whatever earlier attempts started is gone, or its runner is.
        outcome.tree_gone = job
            .attempts
            .iter()
            .all(|attempt| attempt.outcome.as_ref().is_some_and(|outcome| outcome.tree_gone));
        end(ctx, job, outcome, false);
        return Ok(Reply::Job(command.job));
    }
    let running = job.current().map(|attempt| (attempt.lease, attempt.runner.clone()));
    ctx.state.put(job);
    if first && let Some((lease, runner)) = running {
        ctx.emit(EventKind::CancelRequested { job: command.job, lease, runner, by: command.by });
    }
    Ok(Reply::Job(command.job))
}
