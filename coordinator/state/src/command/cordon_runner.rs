//! Keep new jobs from a runner. Those it has go on.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, fleet_request};
use crate::{
    event::EventKind,
    ids::{Index, RunnerId, Timestamp},
    scheduling::{Cordon, SchedulingChange},
    state::{Applying, Request},
};

/// Keep new jobs from a runner. One that is being drained is kept from them already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CordonRunner {
    /// Which.
    pub runner: RunnerId,
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// The idempotency key, if one was given.
    pub request: Option<Request>,
    /// The eviction index before the proposer looked for the key in the history.
    pub history_seen: Index,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: CordonRunner) -> Result<Reply, Refusal> {
    if fleet_request::repeated(ctx, command.request.as_ref(), command.history_seen)? {
        return Ok(Reply::Done);
    }
    let runner = ctx.state.runners.get_mut(&command.runner).ok_or(Refusal::UnknownRunner)?;
    let is_new = runner.cordon.is_none();
    if is_new {
        let by = command.by.clone();
        runner.cordon = Some(Cordon { by, since: command.at, drain: None });
    }
    let name = runner.facts.name.clone();
    let CordonRunner { runner, by, request, .. } = command;
    fleet_request::remember(ctx, request, Some(&runner));
    if is_new {
        let change = Some(SchedulingChange::Cordoned);
        ctx.emit(EventKind::RunnerScheduling { runner, name, change, by });
    }
    Ok(Reply::Done)
}
