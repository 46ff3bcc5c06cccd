//! Accept a job: from here on it ends exactly once.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, history_holds, remember, repeated};
use crate::{
    event::EventKind,
    ids::{Index, JobId, Timestamp},
    job::{Job, Phase},
    spec::JobSpec,
    state::{Applying, Request},
};

/// Accept a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Submit {
    /// Its id.
    pub id: JobId,
    /// What is asked for.
    pub spec: Arc<JobSpec>,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// The job that this one repeats.
    pub retry_of: Option<JobId>,
    /// The idempotency key, if one was given.
    pub request: Option<Request>,
    /// The history was asked about the key as of this entry.
    pub history_seen: Index,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: Submit) -> Result<Reply, Refusal> {
    if let Some(reply) = repeated(ctx, command.request.as_ref())? {
        return Ok(reply);
    }
    if command.request.is_some() {
        history_holds(ctx, command.history_seen)?;
    }
    if ctx.state.jobs.contains_key(&command.id) {
        return Err(Refusal::JobIdTaken(command.id));
    }
    let mut job = Job {
        id: command.id,
        spec: command.spec,
        submitted_at: command.at,
        submitted_by: command.by.clone(),
        retry_of: command.retry_of,
        arrival: ctx.index,
        phase: Phase::Queued { not_before: None },
        attempts: Vec::new(),
        cancellation: None,
        keys: Vec::new(),
    };
    remember(ctx, &mut job, command.request);
    ctx.state.put(job);
    ctx.emit(EventKind::JobSubmitted { job: command.id, by: command.by });
    Ok(Reply::Job(command.id))
}
