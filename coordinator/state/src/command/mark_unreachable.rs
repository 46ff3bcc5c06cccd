//! A runner no longer answers: it gets no more jobs, and keeps those it has
//! until their leases run out.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply};
use crate::{
    event::EventKind,
    ids::{RunnerId, Timestamp},
    runner::Connection,
    state::Applying,
};

/// A runner no longer answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MarkUnreachable {
    /// Which.
    pub runner: RunnerId,
    /// When.
    pub at: Timestamp,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: &MarkUnreachable) -> Result<Reply, Refusal> {
    let runner = ctx.state.runners.get_mut(&command.runner).ok_or(Refusal::UnknownRunner)?;
    if runner.connection == Connection::Online {
        runner.connection = Connection::Unreachable;
        runner.changed_at = command.at;
        let (runner, name) = (command.runner.clone(), runner.facts.name.clone());
        ctx.emit(EventKind::RunnerUnreachable { runner, name });
    }
    Ok(Reply::Done)
}
