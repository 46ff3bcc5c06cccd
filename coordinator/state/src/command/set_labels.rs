//! Grant labels to a runner, or hide some of what it says itself. Both outlast its
//! sessions.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, fleet_request};
use crate::{
    event::EventKind,
    ids::{Index, RunnerId, Timestamp},
    member::Level,
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
    /// By whom; empty while not every member knows of this.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: SetLabels) -> Result<Reply, Refusal> {
    if fleet_request::repeated(ctx, command.request.as_ref(), command.history_seen)? {
        return Ok(Reply::Done);
    }
    // Members that do not know that one takes the other back would come to another state.
    let takes_back = ctx.state.level >= Level(4);
    let runner = ctx.state.runners.get_mut(&command.runner).ok_or(Refusal::UnknownRunner)?;
    let SetLabels { grant, hide, .. } = &command;
    let says = |label: &String| !takes_back || runner.facts.labels.contains(label);
    let (mut granted, mut hidden) = (runner.granted.clone(), runner.hidden.clone());
    for label in grant.difference(hide) {
        let was_hidden = hidden.remove(label);
        if !(takes_back && was_hidden && says(label)) {
            granted.insert(label.clone());
        }
    }
    for label in hide {
        if !granted.remove(label) || says(label) {
            hidden.insert(label.clone());
        }
    }
    if granted.len() > LABELS_MAX || hidden.len() > LABELS_MAX {
        return Err(Refusal::TooManyLabels);
    }
    let is_new = granted != runner.granted || hidden != runner.hidden;
    (runner.granted, runner.hidden) = (granted, hidden);
    let name = runner.facts.name.clone();
    let SetLabels { runner, grant, hide, request, by, .. } = command;
    fleet_request::remember(ctx, request, Some(&runner));
    if is_new {
        ctx.emit(EventKind::RunnerLabels { runner, name, grant, hide, by });
    }
    Ok(Reply::Done)
}
