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
    let runner = ctx.state.runners.get(&command.runner).ok_or(Refusal::UnknownRunner)?;
    let unhealthy = command.unhealthy.into_iter().map(|(name, problem)| {
        let before = runner.unhealthy.get(&name);
        let since = before.map_or(command.at, |before| before.since);
        (name, Unhealthy { problem, since })
    });
    let unhealthy = unhealthy.collect();
    replace(ctx, &command.runner, unhealthy);
    Ok(Reply::Done)
}

/// Says of a runner that this gets no jobs, and nothing else.
pub(super) fn replace(
    ctx: &mut Applying<'_>,
    id: &RunnerId,
    unhealthy: BTreeMap<String, Unhealthy>,
) {
    let Some(runner) = ctx.state.runners.get_mut(id) else { return };
    let name = runner.facts.name.clone();
    let before = std::mem::replace(&mut runner.unhealthy, unhealthy);
    let well = before.keys().filter(|executor| !runner.unhealthy.contains_key(*executor));
    let mut changed: Vec<_> = well.map(|executor| (executor.clone(), None)).collect();
    let ill = runner.unhealthy.iter().filter(|(executor, it)| before.get(*executor) != Some(it));
    changed.extend(ill.map(|(executor, it)| (executor.clone(), Some(it.problem.clone()))));
    for (executor, problem) in changed {
        let (runner, name) = (id.clone(), name.clone());
        ctx.emit(EventKind::RunnerHealth { runner, name, executor, problem });
    }
}
