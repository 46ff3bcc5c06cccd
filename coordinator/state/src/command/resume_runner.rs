//! Give jobs to a runner again.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, runner_request};
use crate::{
    event::EventKind,
    ids::{Index, RunnerId, Timestamp},
    state::{Applying, Request},
};

/// Give jobs to a runner again. What a deadline has done already stays done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResumeRunner {
    /// Which.
    pub runner: RunnerId,
    /// When.
    pub at: Timestamp,
    /// The idempotency key, if one was given.
    pub request: Option<Request>,
    /// The eviction index before the proposer looked for the key in the history.
    pub history_seen: Index,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: ResumeRunner) -> Result<Reply, Refusal> {
    if runner_request::repeated(ctx, command.request.as_ref(), command.history_seen)? {
        return Ok(Reply::Done);
    }
    let runner = ctx.state.runners.get_mut(&command.runner).ok_or(Refusal::UnknownRunner)?;
    let was_cordoned = runner.cordon.take().is_some();
    runner_request::remember(ctx, command.request, &command.runner);
    if was_cordoned {
        ctx.emit(EventKind::RunnerScheduling { runner: command.runner });
    }
    Ok(Reply::Done)
}
