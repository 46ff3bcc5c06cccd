//! Grant labels to a runner, or hide some of what it says itself. Both outlast its
//! sessions.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, runner_request};
use crate::{
    event::EventKind,
    ids::{Index, RunnerId, Timestamp},
    state::{Applying, Request},
};

/// Labels that can be granted to a runner, and hidden from what it says.
pub(crate) const LABELS_MAX: usize = 100;

/// Change what counts of a runner's labels. What is in neither set stays as it is. What was
/// hidden or granted only has that taken back, where this is enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetLabels {
    /// Which.
    pub runner: RunnerId,
    /// When.
    pub at: Timestamp,
    /// It is to have these.
    pub grant: BTreeSet<String>,
    /// It is to have none of these; what is in both is hidden.
    pub hide: BTreeSet<String>,
    /// The idempotency key, if one was given.
    pub request: Option<Request>,
    /// The eviction index before the proposer looked for the key in the history.
    pub history_seen: Index,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: SetLabels) -> Result<Reply, Refusal> {
    if runner_request::repeated(ctx, command.request.as_ref(), command.history_seen)? {
        return Ok(Reply::Done);
    }
    let runner = ctx.state.runners.get_mut(&command.runner).ok_or(Refusal::UnknownRunner)?;
    let SetLabels { grant, hide, .. } = &command;
    let (mut granted, mut hidden) = (runner.granted.clone(), runner.hidden.clone());
    for label in grant.difference(hide) {
        if !(hidden.remove(label) && runner.facts.labels.contains(label)) {
            granted.insert(label.clone());
        }
    }
    for label in hide {
        if !granted.remove(label) || runner.facts.labels.contains(label) {
            hidden.insert(label.clone());
        }
    }
    if granted.len() > LABELS_MAX || hidden.len() > LABELS_MAX {
        return Err(Refusal::TooManyLabels);
    }
    let is_new = granted != runner.granted || hidden != runner.hidden;
    (runner.granted, runner.hidden) = (granted, hidden);
    runner_request::remember(ctx, command.request, &command.runner);
    if is_new {
        ctx.emit(EventKind::RunnerLabels { runner: command.runner });
    }
    Ok(Reply::Done)
}
