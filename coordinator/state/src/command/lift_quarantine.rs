//! Let the executors of a runner that are out of service take jobs again. The runner is told to
//! look at them at once.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, fleet_request, set_health};
use crate::{
    event::EventKind,
    ids::{Index, RunnerId, Timestamp},
    member::Level,
    runner::{Connection, HOST},
    state::{Applying, Request},
};

/// Let the executors of a runner take jobs again until they fail anew. What is wrong with its
/// host stays so until the runner says otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LiftQuarantine {
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

/// Of the runners that know what they are to do then.
const RUNNER_LEVEL: Level = Level(4);

pub(super) fn apply(ctx: &mut Applying<'_>, command: LiftQuarantine) -> Result<Reply, Refusal> {
    if fleet_request::repeated(ctx, command.request.as_ref(), command.history_seen)? {
        return Ok(Reply::Done);
    }
    let LiftQuarantine { runner: id, by, request, .. } = command;
    let runner = ctx.state.runners.get(&id).ok_or(Refusal::UnknownRunner)?;
    if runner.connection != Connection::Online {
        return Err(Refusal::RunnerUnreachable);
    }
    if runner.facts.level < RUNNER_LEVEL {
        return Err(Refusal::RunnerTooOld);
    }
    let name = runner.facts.name.clone();
    let mut unhealthy = runner.unhealthy.clone();
    unhealthy.retain(|name, _| name == HOST);
    fleet_request::remember(ctx, request, Some(&id));
    ctx.emit(EventKind::QuarantineLifted { runner: id.clone(), name, by });
    set_health::replace(ctx, &id, unhealthy);
    Ok(Reply::Done)
}
