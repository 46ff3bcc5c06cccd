//! Give jobs of a queue to runners again.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, fleet_request};
use crate::{
    event::EventKind,
    ids::{Index, Timestamp},
    queue::QueueName,
    state::{Applying, Request},
};

/// Give jobs of a queue to runners again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeQueue {
    /// Which.
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

pub(super) fn apply(ctx: &mut Applying<'_>, command: ResumeQueue) -> Result<Reply, Refusal> {
    if fleet_request::repeated(ctx, command.request.as_ref(), command.history_seen)? {
        return Ok(Reply::Done);
    }
    let was_paused = ctx.state.paused.remove(&command.queue).is_some();
    fleet_request::remember(ctx, command.request, None);
    if was_paused {
        ctx.emit(EventKind::QueueResumed { queue: command.queue, by: command.by });
    }
    Ok(Reply::Done)
}
