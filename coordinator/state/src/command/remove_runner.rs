//! Forget a runner that is gone for good. Should it come back all the same, it
//! registers anew.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, history_holds};
use crate::{
    event::EventKind,
    ids::{Index, RunnerId, Timestamp},
    runner::Connection,
    state::{Applying, Removal, Request},
};

/// Removals whose keys are remembered; the oldest key goes first. There is no
/// job with whose record it could be kept.
pub(crate) const REMEMBERED: usize = 1000;

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
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: RemoveRunner) -> Result<Reply, Refusal> {
    if let Some(request) = &command.request {
        match ctx.state.removals.get(&request.key) {
            Some(removal) if removal.digest == request.digest => return Ok(Reply::Done),
            Some(_) => return Err(Refusal::KeyReused),
            None if ctx.state.requests.contains_key(&request.key) => {
                return Err(Refusal::KeyReused);
            }
            None => history_holds(ctx, command.history_seen)?,
        }
    }
    let runner = ctx.state.runners.get(&command.runner).ok_or(Refusal::UnknownRunner)?;
    if runner.connection == Connection::Online {
        return Err(Refusal::RunnerOnline);
    }
    if !runner.leases.is_empty() {
        return Err(Refusal::RunnerHoldsLeases(runner.leases.len()));
    }
    ctx.state.runners.remove(&command.runner);
    if let Some(request) = command.request {
        let removal =
            Removal { index: ctx.index, digest: request.digest, runner: command.runner.clone() };
        ctx.state.removals.insert(request.key, removal);
        forget_oldest(ctx);
    }
    ctx.emit(EventKind::RunnerRemoved { runner: command.runner });
    Ok(Reply::Done)
}

fn forget_oldest(ctx: &mut Applying<'_>) {
    if ctx.state.removals.len() > REMEMBERED {
        let oldest = ctx.state.removals.iter().min_by_key(|(_, removal)| removal.index);
        if let Some(key) = oldest.map(|(key, _)| key.clone()) {
            ctx.state.removals.remove(&key);
        }
    }
}
