//! Forget a runner that is gone for good. Should it come back all the same, it
//! registers anew.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, fleet_request};
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
    /// By whom; empty when its time was over or it has left, and while not every member
    /// knows of this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: RemoveRunner) -> Result<Reply, Refusal> {
    if fleet_request::repeated(ctx, command.request.as_ref(), command.history_seen)? {
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
    let name = runner.facts.name.clone();
    let RemoveRunner { runner, by, request, .. } = command;
    ctx.state.runners.remove(&runner);
    fleet_request::remember(ctx, request, Some(&runner));
    ctx.emit(EventKind::RunnerRemoved { runner, name, by });
    Ok(Reply::Done)
}
