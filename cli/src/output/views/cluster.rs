//! The coordinators and the figures of the fleet.

use baton_proto::v1::{ClusterMember, ClusterStatusResponse};
use serde::Serialize;

/// The coordinators and the figures of the fleet.
#[derive(Debug, Serialize)]
pub(crate) struct ClusterView {
    pub(crate) node_id: u64,
    pub(crate) leader_id: Option<u64>,
    pub(crate) term: u64,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    pub(crate) version: String,
    pub(crate) members: Vec<MemberView>,
    pub(crate) jobs_queued: u64,
    pub(crate) jobs_running: u64,
    pub(crate) runners_online: u64,
    pub(crate) runners_unreachable: u64,
    pub(crate) slots: u64,
    pub(crate) slots_used: u64,
}

/// One coordinator.
#[derive(Debug, Serialize)]
pub(crate) struct MemberView {
    pub(crate) node_id: u64,
    pub(crate) voter: bool,
}

impl From<ClusterStatusResponse> for ClusterView {
    fn from(status: ClusterStatusResponse) -> Self {
        let member =
            |member: &ClusterMember| MemberView { node_id: member.node_id, voter: member.voter };
        Self {
            node_id: status.node_id,
            leader_id: (status.leader_id != 0).then_some(status.leader_id),
            term: status.term,
            committed: status.committed,
            applied: status.applied,
            members: status.members.iter().map(member).collect(),
            version: status.version,
            jobs_queued: status.jobs_queued,
            jobs_running: status.jobs_running,
            runners_online: status.runners_online,
            runners_unreachable: status.runners_unreachable,
            slots: status.slots,
            slots_used: status.slots_used,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_leader_is_null_rather_than_zero() {
        let view = ClusterView::from(ClusterStatusResponse::default());
        assert_eq!(view.leader_id, None);
    }
}
