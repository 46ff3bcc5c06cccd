//! A job's process has started.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, take_leased};
use crate::{
    event::EventKind,
    ids::{JobId, Lease, Timestamp},
    job::Phase,
    state::Applying,
};

/// A job's process has started.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// Which job.
    pub job: JobId,
    /// Under which lease.
    pub lease: Lease,
    /// When this was proposed.
    pub at: Timestamp,
    /// When the process started, by the runner's clock.
    pub started_at: Timestamp,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: &Start) -> Result<Reply, Refusal> {
    let mut job = take_leased(ctx, command.job, command.lease)?;
    let first = job.phase == Phase::Leased;
    if first {
        job.phase = Phase::Running;
        if let Some(attempt) = job.attempts.last_mut() {
            attempt.started_at = Some(command.started_at);
        }
    }
    ctx.state.put(job);
    if first {
        ctx.emit(EventKind::JobStarted { job: command.job, lease: command.lease });
    }
    Ok(Reply::Done)
}
