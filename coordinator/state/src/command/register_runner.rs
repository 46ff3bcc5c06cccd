//! A runner connected: remember what it says about itself.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, set_health};
use crate::{
    event::EventKind,
    ids::Timestamp,
    member::Level,
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
    let (id, level) = (command.facts.id.clone(), ctx.state.level);
    let facts = &command.facts;
    let (name, version, leaving) = (facts.name.clone(), facts.version.clone(), facts.leaving);
    let mut is_other = false;
    if let Some(runner) = ctx.state.runners.get_mut(&id) {
        if runner.connection == Connection::Online && runner.facts == command.facts {
            return Ok(Reply::Done);
        }
        if runner.connection != Connection::Online {
            runner.connection = Connection::Online;
            runner.changed_at = command.at;
        }
        is_other = runner.facts.version != command.facts.version
            || runner.facts.executors != command.facts.executors;
        runner.served &= command.facts.ephemeral;
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
            cordon: None,
            granted: BTreeSet::new(),
            hidden: BTreeSet::new(),
            served: false,
        };
        ctx.state.runners.insert(id.clone(), runner);
    }
    ctx.emit(EventKind::RunnerOnline { runner: id.clone(), name, version, leaving });
    // Members that do not know this rule yet would come to another state.
    if is_other && level >= Level(3) {
        set_health::replace(ctx, &id, BTreeMap::new());
    }
    Ok(Reply::Done)
}
