//! The Cluster service.

use baton_proto::v1::{self, cluster_server};
use baton_state::Connection;
use tonic::{Request, Response, Status};

use super::Services;

#[tonic::async_trait]
impl cluster_server::Cluster for Services {
    async fn status(
        &self,
        _request: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        let raft = self.jobs.raft.status().borrow().clone();
        let state = self.jobs.raft.state();
        let online = state.runners().values().filter(|r| r.connection == Connection::Online);
        let members = raft.voters.iter().map(|id| (*id, true));
        let members = members.chain(raft.learners.iter().map(|id| (*id, false)));
        Ok(Response::new(v1::ClusterStatusResponse {
            node_id: raft.node_id,
            leader_id: raft.leader_id,
            term: raft.term,
            committed: raft.committed,
            applied: raft.applied,
            members: members.map(|(node_id, voter)| v1::ClusterMember { node_id, voter }).collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            jobs_queued: state.queues().len() as u64,
            jobs_running: state.leased() as u64,
            runners_online: online.clone().count() as u64,
            runners_unreachable: (state.runners().len() - online.clone().count()) as u64,
            slots: online.clone().map(|runner| u64::from(runner.facts.slots)).sum(),
            slots_used: online.map(|runner| runner.leases.len() as u64).sum(),
        }))
    }
}
