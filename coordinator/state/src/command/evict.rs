//! Forget finished jobs, and late keys, that the history has, so that memory grows with what is
//! live and not with what has been.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply};
use crate::{
    event::EventKind,
    ids::{Index, JobId, Timestamp},
    state::Applying,
};

/// Forget finished jobs and late keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evict {
    /// Those that finished or were taken at this index or an earlier one.
    pub through: Index,
    /// When.
    pub at: Timestamp,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: &Evict) -> Result<Reply, Refusal> {
    let through = (command.through, JobId::MAX);
    let jobs: Vec<JobId> = ctx.state.finished.range(..=through).map(|(_, job)| *job).collect();
    for id in jobs {
        if let Some(job) = ctx.state.take(id) {
            for request in &job.keys {
                ctx.state.requests.remove(&request.key);
            }
            ctx.emit(EventKind::JobEvicted { job: id });
            evicted(ctx, command.through);
        }
    }
    let newer = ctx.state.late.split_off(&command.through.saturating_add(1));
    for key in std::mem::replace(&mut ctx.state.late, newer).into_values() {
        ctx.state.requests.remove(&key);
        evicted(ctx, command.through);
    }
    Ok(Reply::Done)
}

fn evicted(ctx: &mut Applying<'_>, through: Index) {
    ctx.state.evicted_at = ctx.index;
    ctx.state.evicted_through = ctx.state.evicted_through.max(through);
}
