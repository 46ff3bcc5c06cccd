//! Keep the jobs of a queue waiting. Those that a runner has go on.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, fleet_request};
use crate::{
    event::EventKind,
    ids::{Index, Timestamp},
    queue::{Paused, QueueName},
    state::{Applying, Request},
};

/// Queues that can be paused at once.
pub(crate) const PAUSED_MAX: usize = 1_000;

/// Keep the jobs of a queue waiting, those that come later included.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseQueue {
    /// Which. It may be empty.
    pub queue: QueueName,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// The idempotency key, if one was given.
    pub request: Option<Request>,
    /// The eviction index before the proposer looked for the key in the history.
    pub history_seen: Index,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: PauseQueue) -> Result<Reply, Refusal> {
    if fleet_request::repeated(ctx, command.request.as_ref(), command.history_seen)? {
        return Ok(Reply::Done);
    }
    let PauseQueue { queue, at, by, request, history_seen: _ } = command;
    let is_new = !ctx.state.paused.contains_key(&queue);
    if is_new && ctx.state.paused.len() >= PAUSED_MAX {
        return Err(Refusal::TooManyPaused);
    }
    fleet_request::remember(ctx, request, None);
    if is_new {
        ctx.state.paused.insert(queue.clone(), Paused { by: by.clone(), since: at });
        ctx.emit(EventKind::QueuePaused { queue, by });
    }
    Ok(Reply::Done)
}
