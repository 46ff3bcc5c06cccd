//! Change the priority of a job that has not ended. One that runs keeps it for the case that
//! it waits again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, history_holds, remember, repeated};
use crate::{
    event::EventKind,
    ids::{Index, JobId, Timestamp},
    state::{Applying, Request},
};

/// Change the priority of a job. Its arrival stays as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetPriority {
    /// Which.
    pub job: JobId,
    /// As in [`crate::JobSpec`].
    pub priority: i32,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// The idempotency key, if one was given.
    pub request: Option<Request>,
    /// The history was asked about the key as of this entry.
    pub history_seen: Index,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: SetPriority) -> Result<Reply, Refusal> {
    if let Some(reply) = repeated(ctx, command.request.as_ref())? {
        return Ok(reply);
    }
    if command.request.is_some() {
        history_holds(ctx, command.history_seen)?;
    }
    let SetPriority { job: id, priority: to, by, request, .. } = command;
    let job = ctx.state.job(id).ok_or(Refusal::UnknownJob(id))?;
    if job.is_finished() {
        return Err(Refusal::JobFinished(id));
    }
    let mut job = ctx.state.take(id).ok_or(Refusal::UnknownJob(id))?;
    remember(ctx, &mut job, request);
    let from = job.spec.priority;
    if from != to {
        Arc::make_mut(&mut job.spec).priority = to;
    }
    ctx.state.put(job);
    if from != to {
        ctx.emit(EventKind::JobPriority { job: id, from, to, by });
    }
    Ok(Reply::Job(id))
}
