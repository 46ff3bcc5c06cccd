//! Executors of a runner stopped working, or work again: they get no jobs until then.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply};
use crate::{
    event::EventKind,
    ids::{RunnerId, Timestamp},
    runner::Unhealthy,
    state::Applying,
};

/// What of a runner gets no jobs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetHealth {
    /// Which.
    pub runner: RunnerId,
    /// Problems, by the names of executors, or [`crate::runner::HOST`]; what is not here
    /// is healthy.
    pub unhealthy: BTreeMap<String, String>,
    /// When.
    pub at: Timestamp,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: SetHealth) -> Result<Reply, Refusal> {
    let runner = ctx.state.runners.get_mut(&command.runner).ok_or(Refusal::UnknownRunner)?;
    let unhealthy = command.unhealthy.into_iter().map(|(name, problem)| {
        let before = runner.unhealthy.get(&name);
        let since = before.map_or(command.at, |before| before.since);
        (name, Unhealthy { problem, since })
    });
    let unhealthy: BTreeMap<_, _> = unhealthy.collect();
    if runner.unhealthy != unhealthy {
        runner.unhealthy = unhealthy;
        ctx.emit(EventKind::RunnerHealth { runner: command.runner });
    }
    Ok(Reply::Done)
}
