//! A coordinator becomes a member, or says something new about itself. A number
//! stands for one data folder for ever: a vote given under it must not be given
//! again by a node that has forgotten it.

use std::collections::btree_map::Entry;

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply};
use crate::{
    event::EventKind,
    ids::{NodeId, Timestamp},
    member::Member,
    state::Applying,
};

/// Admit a coordinator, or note what is new about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PutMember {
    /// Its number.
    pub node: NodeId,
    /// What it says about itself.
    pub member: Member,
    /// When.
    pub at: Timestamp,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: PutMember) -> Result<Reply, Refusal> {
    let PutMember { node, member, at: _ } = command;
    let others = || ctx.state.members.iter().filter(|(other, _)| **other != node);
    if others().any(|(_, other)| other.instance == member.instance) {
        return Err(Refusal::AlreadyMember);
    }
    if member.level < ctx.state.level {
        return Err(Refusal::TooOld { known: member.level, needed: ctx.state.level });
    }
    let (address, version) = (member.address.clone(), member.version.clone());
    let event = match ctx.state.members.entry(node) {
        Entry::Occupied(known) if known.get().instance != member.instance => {
            return Err(Refusal::NodeIdTaken(node));
        }
        Entry::Occupied(known) if *known.get() == member => return Ok(Reply::Done),
        Entry::Occupied(mut known) => {
            known.insert(member);
            EventKind::MemberChanged { node, address, version }
        }
        Entry::Vacant(_) if node <= ctx.state.newest_node => {
            return Err(Refusal::NodeIdTaken(node));
        }
        Entry::Vacant(free) => {
            free.insert(member);
            ctx.state.newest_node = node;
            EventKind::MemberJoined { node, address, version }
        }
    };
    ctx.state.raise_level();
    ctx.emit(event);
    Ok(Reply::Done)
}
