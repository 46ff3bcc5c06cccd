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
        let members = state.members().iter().map(|(node, member)| v1::ClusterMember {
            node_id: node.0,
            voter: raft.voters.contains(&node.0),
            address: member.address.clone(),
            peer_address: member.peer_address.clone(),
            version: member.version.clone(),
        });
        Ok(Response::new(v1::ClusterStatusResponse {
            node_id: raft.node_id,
            leader_id: raft.leader_id,
            term: raft.term,
            committed: raft.committed,
            applied: raft.applied,
            members: members.collect(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            jobs_queued: state.queues().len() as u64,
            jobs_running: state.leased() as u64,
            runners_online: online.clone().count() as u64,
            runners_unreachable: (state.runners().len() - online.clone().count()) as u64,
            slots: online.clone().map(|runner| u64::from(runner.facts.slots)).sum(),
            slots_used: online.map(|runner| runner.leases.len() as u64).sum(),
            cluster_id: state.cluster_id().to_owned(),
        }))
    }

    async fn members(
        &self,
        _request: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        Err(Status::unimplemented("members"))
    }

    async fn join(
        &self,
        _request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        Err(Status::unimplemented("join"))
    }

    async fn remove(
        &self,
        _request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        Err(Status::unimplemented("remove"))
    }

    async fn transfer(
        &self,
        _request: Request<v1::TransferRequest>,
    ) -> Result<Response<v1::TransferResponse>, Status> {
        Err(Status::unimplemented("transfer"))
    }
}
