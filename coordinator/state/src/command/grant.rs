//! Give a job to a runner. The proposer has matched them; everything is checked
//! again here, since both may have changed meanwhile.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply};
use crate::{
    event::EventKind,
    ids::{JobId, Lease, RunnerId, Timestamp},
    job::{Attempt, Phase},
    runner::Connection,
    state::Applying,
};

/// Give a job to a runner; the entry's index becomes the lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// Which job.
    pub job: JobId,
    /// Which runner.
    pub runner: RunnerId,
    /// When.
    pub at: Timestamp,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: &Grant) -> Result<Reply, Refusal> {
    let job = ctx.state.job(command.job).ok_or(Refusal::UnknownJob(command.job))?;
    if job.phase != (Phase::Queued { not_before: None }) {
        return Err(Refusal::NotReady(command.job));
    }
    if ctx.state.pause_of(&job.spec.project, &job.spec.requirements).is_some() {
        return Err(Refusal::QueuePaused);
    }
    let runner = ctx.state.runner(&command.runner).ok_or(Refusal::UnknownRunner)?;
    if runner.connection != Connection::Online {
        return Err(Refusal::RunnerUnreachable);
    }
    if !runner.takes_jobs() {
        return Err(Refusal::RunnerClosed);
    }
    if !runner.offers(&job.spec.requirements) {
        return Err(Refusal::RequirementsNotMet);
    }
    if runner.ailment(&job.spec.requirements).is_some() {
        return Err(Refusal::RunnerUnhealthy);
    }
    if runner.free_for(&job.spec.requirements) == 0 {
        return Err(Refusal::NoFreeSlot);
    }
    let lease = Lease(ctx.index);
    let runner_name = runner.facts.name.clone();
    let mut job = ctx.state.take(command.job).ok_or(Refusal::UnknownJob(command.job))?;
    job.phase = Phase::Leased;
    job.attempts.push(Attempt {
        lease,
        runner: command.runner.clone(),
        runner_name,
        leased_at: command.at,
        started_at: None,
        finished_at: None,
        outcome: None,
        log: None,
        artifacts: None,
        recalled: false,
    });
    ctx.state.put(job);
    if let Some(runner) = ctx.state.runners.get_mut(&command.runner) {
        runner.served = runner.facts.ephemeral;
    }
    ctx.emit(EventKind::JobLeased { job: command.job, lease, runner: command.runner.clone() });
    Ok(Reply::Lease(lease))
}
