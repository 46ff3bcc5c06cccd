//! Forget a runner that is gone for good. Should it come back all the same, it
//! registers anew.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, runner_request};
use crate::{
    event::EventKind,
    ids::{Index, RunnerId, Timestamp},
    runner::Connection,
    state::{Applying, Request},
};

/// Forget a runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveRunner {
    /// Which.
    pub runner: RunnerId,
    /// When.
    pub at: Timestamp,
    /// The request behind it; none when its time was over.
    pub request: Option<Request>,
    /// The eviction index before the proposer looked for the key in the history.
    pub history_seen: Index,
    /// It has said that it had its only job and is gone for good.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub left: bool,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: RemoveRunner) -> Result<Reply, Refusal> {
    if runner_request::repeated(ctx, command.request.as_ref(), command.history_seen)? {
        return Ok(Reply::Done);
    }
    let runner = ctx.state.runners.get(&command.runner).ok_or(Refusal::UnknownRunner)?;
    let left = command.left && runner.is_spent();
    if runner.connection == Connection::Online && !left {
        return Err(Refusal::RunnerOnline);
    }
    if !runner.leases.is_empty() {
        return Err(Refusal::RunnerHoldsLeases(runner.leases.len()));
    }
    ctx.state.runners.remove(&command.runner);
    runner_request::remember(ctx, command.request, &command.runner);
    ctx.emit(EventKind::RunnerRemoved { runner: command.runner });
    Ok(Reply::Done)
}
