//! A coordinator is a member no more.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply};
use crate::{
    event::EventKind,
    ids::{NodeId, Timestamp},
    state::Applying,
};

/// Remove a coordinator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveMember {
    /// Which.
    pub node: NodeId,
    /// When.
    pub at: Timestamp,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: &RemoveMember) -> Result<Reply, Refusal> {
    let member = ctx.state.members.get(&command.node);
    let member = member.ok_or(Refusal::UnknownMember(command.node))?;
    let (address, version) = (member.address.clone(), member.version.clone());
    if ctx.state.members.len() == 1 {
        return Err(Refusal::LastMember);
    }
    ctx.state.members.remove(&command.node);
    ctx.state.raise_level();
    ctx.emit(EventKind::MemberRemoved { node: command.node, address, version });
    Ok(Reply::Done)
}
