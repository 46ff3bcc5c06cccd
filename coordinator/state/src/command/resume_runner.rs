//! Give jobs to a runner again.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, fleet_request};
use crate::{
    event::EventKind,
    ids::{Index, RunnerId, Timestamp},
    scheduling::SchedulingChange,
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
    /// By whom; empty while not every member knows of this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: ResumeRunner) -> Result<Reply, Refusal> {
    if fleet_request::repeated(ctx, command.request.as_ref(), command.history_seen)? {
        return Ok(Reply::Done);
    }
    let runner = ctx.state.runners.get_mut(&command.runner).ok_or(Refusal::UnknownRunner)?;
    let was_cordoned = runner.cordon.take().is_some();
    let name = runner.facts.name.clone();
    let ResumeRunner { runner, by, request, .. } = command;
    fleet_request::remember(ctx, request, Some(&runner));
    if was_cordoned {
        let change = Some(SchedulingChange::Resumed);
        ctx.emit(EventKind::RunnerScheduling { runner, name, change, by });
    }
    Ok(Reply::Done)
}
