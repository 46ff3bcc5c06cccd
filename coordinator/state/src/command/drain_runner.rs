//! Empty a runner: no new jobs, and a deadline for those it has.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, fleet_request};
use crate::{
    event::EventKind,
    ids::{Index, JobId, Lease, RunnerId, Timestamp},
    job::Cancellation,
    runner::Runner,
    scheduling::{AtDeadline, Cordon, Drain, SchedulingChange},
    spec::OnLost,
    state::{Applying, Request},
};

/// Empty a runner. The deadline of an earlier drain no longer counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DrainRunner {
    /// Which.
    pub runner: RunnerId,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Until when its jobs may go on; none: until their end.
    pub deadline: Option<Timestamp>,
    /// What happens then to those that still run.
    pub then: AtDeadline,
    /// The idempotency key, if one was given.
    pub request: Option<Request>,
    /// The eviction index before the proposer looked for the key in the history.
    pub history_seen: Index,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: DrainRunner) -> Result<Reply, Refusal> {
    if fleet_request::repeated(ctx, command.request.as_ref(), command.history_seen)? {
        return Ok(Reply::Done);
    }
    let runner = ctx.state.runners.get_mut(&command.runner).ok_or(Refusal::UnknownRunner)?;
    let drain = Drain { deadline: command.deadline, then: command.then, overdue: false };
    let since = runner.cordon.as_ref().map_or(command.at, |cordon| cordon.since);
    runner.cordon = Some(Cordon { by: command.by.clone(), since, drain: Some(drain) });
    let name = runner.facts.name.clone();
    let DrainRunner { runner, by, deadline, then, request, .. } = command;
    fleet_request::remember(ctx, request, Some(&runner));
    let change = Some(SchedulingChange::Draining { deadline, then });
    ctx.emit(EventKind::RunnerScheduling { runner, name, change, by });
    Ok(Reply::Done)
}

/// Does what is to be done at the deadlines that are over.
pub(super) fn end_overdue(ctx: &mut Applying<'_>, now: Timestamp) {
    let due = |runner: &Runner| runner.drain_due().is_some_and(|due| due <= now);
    let runners = ctx.state.runners.iter().filter(|(_, runner)| due(runner));
    let runners: Vec<RunnerId> = runners.map(|(id, _)| id.clone()).collect();
    for id in runners {
        let Some(runner) = ctx.state.runners.get_mut(&id) else { continue };
        let Some(Cordon { by, drain: Some(drain), .. }) = &mut runner.cordon else { continue };
        drain.overdue = true;
        let (then, by, name) = (drain.then, by.clone(), runner.facts.name.clone());
        let leases: Vec<(Lease, JobId)> =
            runner.leases.iter().map(|(lease, job)| (*lease, *job)).collect();
        ctx.emit(EventKind::RunnerScheduling {
            runner: id.clone(),
            name: name.clone(),
            change: Some(SchedulingChange::DeadlineOver { then }),
            by: by.clone(),
        });
        for (lease, job) in leases {
            match then {
                AtDeadline::Wait => {}
                AtDeadline::Requeue => recall(ctx, job, lease, &id),
                AtDeadline::Cancel => cancel(ctx, job, lease, &id, &by, &name),
            }
        }
    }
}

/// Asks for a job back. One that must not run twice goes on to its end.
fn recall(ctx: &mut Applying<'_>, id: JobId, lease: Lease, runner: &RunnerId) {
    let Some(mut job) = ctx.state.take(id) else { return };
    let may_run_again = job.spec.on_lost == OnLost::Requeue && job.cancellation.is_none();
    if may_run_again && let Some(attempt) = job.attempts.last_mut() {
        attempt.recalled = true;
    }
    ctx.state.put(job);
    if may_run_again {
        ctx.emit(EventKind::JobRecalled { job: id, lease, runner: runner.clone() });
    }
}

fn cancel(
    ctx: &mut Applying<'_>,
    id: JobId,
    lease: Lease,
    runner: &RunnerId,
    by: &str,
    name: &str,
) {
    let Some(mut job) = ctx.state.take(id) else { return };
    let first = job.cancellation.is_none();
    if first {
        let reason = format!("runner {name} is being drained, and its deadline is over");
        job.cancellation = Some(Cancellation { at: ctx.at, by: by.to_owned(), reason });
    }
    ctx.state.put(job);
    if first {
        let (runner, by) = (runner.clone(), by.to_owned());
        ctx.emit(EventKind::CancelRequested { job: id, lease, runner, by });
    }
}
