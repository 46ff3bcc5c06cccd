//! A runner connected: remember what it says about itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply};
use crate::{
    event::EventKind,
    ids::Timestamp,
    runner::{Connection, Runner, RunnerFacts},
    state::Applying,
};

/// A runner connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterRunner {
    /// What it says about itself.
    pub facts: RunnerFacts,
    /// When.
    pub at: Timestamp,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: RegisterRunner) -> Result<Reply, Refusal> {
    let id = command.facts.id.clone();
    if let Some(runner) = ctx.state.runners.get_mut(&id) {
        if runner.connection == Connection::Online && runner.facts == command.facts {
            return Ok(Reply::Done);
        }
        if runner.connection != Connection::Online {
            runner.connection = Connection::Online;
            runner.changed_at = command.at;
        }
        runner.facts = command.facts;
    } else {
        let runner = Runner {
            facts: command.facts,
            connection: Connection::Online,
            registered_at: command.at,
            changed_at: command.at,
            leases: BTreeMap::new(),
            on_targets: BTreeMap::new(),
            unhealthy: BTreeMap::new(),
        };
        ctx.state.runners.insert(id.clone(), runner);
    }
    ctx.emit(EventKind::RunnerOnline { runner: id });
    Ok(Reply::Done)
}
