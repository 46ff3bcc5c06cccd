//! The first entry of the first log: a cluster begins with one member.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply};
use crate::{
    event::EventKind,
    ids::{NodeId, Timestamp},
    member::Member,
    state::Applying,
};

/// Begin a cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FoundCluster {
    /// What it is called from now on.
    pub cluster_id: String,
    /// Its first member's number.
    pub node: NodeId,
    /// Its first member.
    pub member: Member,
    /// When.
    pub at: Timestamp,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: FoundCluster) -> Result<Reply, Refusal> {
    if !ctx.state.members.is_empty() {
        return Err(Refusal::ClusterFounded);
    }
    ctx.state.cluster_id = command.cluster_id;
    ctx.state.newest_node = command.node;
    let (address, version) = (command.member.address.clone(), command.member.version.clone());
    ctx.state.members.insert(command.node, command.member);
    ctx.state.raise_level();
    ctx.emit(EventKind::MemberJoined { node: command.node, address, version });
    Ok(Reply::Done)
}
