//! Who the members are, and how each says that it is.

use baton_proto::v1;
use baton_state::NodeId;

use crate::{
    peers::PeerService,
    problems::{self, Answer, said},
    raft::RaftHandle,
};

/// Asks the members. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Roster {
    pub(crate) raft: RaftHandle,
    pub(crate) peers: PeerService<RaftHandle>,
}

impl Roster {
    /// The members, as this node's log has them.
    pub(crate) fn members(&self) -> Vec<v1::ClusterMember> {
        let raft = self.raft.status().borrow().clone();
        let state = self.raft.state();
        let members = state.members().iter().map(|(node, member)| v1::ClusterMember {
            node_id: node.0,
            voter: raft.voters.contains(&node.0),
            address: member.address.clone(),
            peer_address: member.peer_address.clone(),
            version: member.version.clone(),
        });
        members.collect()
    }

    /// The leader and the term of whoever knows the newest, and each member's answer.
    pub(crate) async fn ask(&self, members: &[v1::ClusterMember]) -> (u64, u64, Vec<Answer>) {
        let this = self.raft.status().borrow().node_id;
        let answers = members.iter().map(async |member| {
            let node = NodeId(member.node_id);
            let answer = if member.node_id == this {
                Ok(self.peers.own_status())
            } else {
                self.peers.directory.status_of(node).await
            };
            (node, answer)
        });
        let answers = futures::future::join_all(answers).await;
        let newest = said(&answers).map(|(_, answer)| answer);
        let newest = newest.max_by_key(|answer| (answer.term, answer.leader_id));
        let (leader_id, term) = newest.map_or((0, 0), |newest| (newest.leader_id, newest.term));
        (leader_id, term, answers)
    }

    /// How every member is.
    pub(crate) async fn statuses(&self) -> v1::Members {
        let members = self.members();
        let (leader_id, term, answers) = self.ask(&members).await;
        let committed = said(&answers).map(|(_, answer)| answer.committed).max().unwrap_or(0);
        let problems: Vec<_> =
            members.iter().map(|member| problems::of(member, &answers)).collect();
        let answers = answers.into_iter().map(|(_, answer)| answer);
        let members =
            members.into_iter().zip(answers).zip(problems).map(|((member, answer), problem)| {
                let reachable = answer.is_ok();
                let answer = answer.unwrap_or_default();
                v1::MemberStatus {
                    member: Some(member),
                    reachable,
                    applied: answer.applied,
                    lag: if reachable { committed.saturating_sub(answer.applied) } else { 0 },
                    disk_free: answer.disk_free,
                    disk_total: answer.disk_total,
                    problem,
                    missing_files: answer.files.and_then(|files| files.missing),
                }
            });
        v1::Members { leader_id, term, members: members.collect() }
    }
}
