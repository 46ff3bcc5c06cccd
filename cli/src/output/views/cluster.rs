//! The coordinators and the figures of the fleet.

use baton_proto::v1::{ClusterStatusResponse, ListMembersResponse, MemberStatus};
use serde::Serialize;

/// The coordinators and the figures of the fleet.
#[derive(Debug, Serialize)]
pub(crate) struct ClusterView {
    pub(crate) cluster_id: String,
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

/// One coordinator. What only it knows is missing when it does not answer.
#[derive(Debug, Serialize)]
pub(crate) struct MemberView {
    pub(crate) node_id: u64,
    pub(crate) voter: bool,
    pub(crate) address: String,
    pub(crate) peer_address: String,
    pub(crate) version: String,
    pub(crate) reachable: bool,
    pub(crate) applied: Option<u64>,
    /// Committed entries that it has yet to apply.
    pub(crate) lag: Option<u64>,
    pub(crate) disk_free: Option<u64>,
    pub(crate) disk_total: Option<u64>,
    pub(crate) problem: Option<String>,
    /// Stored files that it has yet to fetch; null also while it does not know.
    pub(crate) missing_files: Option<u64>,
}

/// A coordinator that was removed.
#[derive(Debug, Serialize)]
pub(crate) struct RemovedMemberView {
    pub(crate) node_id: u64,
}

/// The leader after a transfer.
#[derive(Debug, Serialize)]
pub(crate) struct TransferView {
    pub(crate) leader_id: u64,
}

impl ClusterView {
    /// What one node says of the fleet, and what all of them say of themselves.
    pub(crate) fn new(status: ClusterStatusResponse, members: ListMembersResponse) -> Self {
        Self {
            cluster_id: status.cluster_id,
            node_id: status.node_id,
            leader_id: (members.leader_id != 0).then_some(members.leader_id),
            term: members.term,
            committed: status.committed,
            applied: status.applied,
            version: status.version,
            members: members.members.into_iter().map(MemberView::from).collect(),
            jobs_queued: status.jobs_queued,
            jobs_running: status.jobs_running,
            runners_online: status.runners_online,
            runners_unreachable: status.runners_unreachable,
            slots: status.slots,
            slots_used: status.slots_used,
        }
    }
}

impl From<MemberStatus> for MemberView {
    fn from(status: MemberStatus) -> Self {
        let member = status.member.unwrap_or_default();
        let answered = |figure| status.reachable.then_some(figure);
        Self {
            node_id: member.node_id,
            voter: member.voter,
            address: member.address,
            peer_address: member.peer_address,
            version: member.version,
            reachable: status.reachable,
            applied: answered(status.applied),
            lag: answered(status.lag),
            disk_free: answered(status.disk_free),
            disk_total: answered(status.disk_total),
            missing_files: status.missing_files,
            problem: Some(status.problem).filter(|problem| !problem.is_empty()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_leader_is_null_rather_than_zero() {
        let view = ClusterView::new(ClusterStatusResponse::default(), Default::default());
        assert_eq!(view.leader_id, None);
    }

    #[test]
    fn what_a_silent_member_would_say_is_null() {
        let silent = MemberView::from(MemberStatus::default());
        assert_eq!((silent.lag, silent.disk_free, silent.problem), (None, None, None));
        assert_eq!(silent.missing_files, None);
        let well = MemberView::from(MemberStatus { reachable: true, ..MemberStatus::default() });
        assert_eq!(well.lag, Some(0));
    }
}
