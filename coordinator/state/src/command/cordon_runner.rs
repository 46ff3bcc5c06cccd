//! Keep new jobs from a runner. Those it has go on.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, runner_request};
use crate::{
    event::EventKind,
    ids::{Index, RunnerId, Timestamp},
    scheduling::Cordon,
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
    if runner_request::repeated(ctx, command.request.as_ref(), command.history_seen)? {
        return Ok(Reply::Done);
    }
    let runner = ctx.state.runners.get_mut(&command.runner).ok_or(Refusal::UnknownRunner)?;
    let is_new = runner.cordon.is_none();
    if is_new {
        runner.cordon = Some(Cordon { by: command.by, since: command.at, drain: None });
    }
    runner_request::remember(ctx, command.request, &command.runner);
    if is_new {
        ctx.emit(EventKind::RunnerScheduling { runner: command.runner });
    }
    Ok(Reply::Done)
}
