//! The Cluster service.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use baton_proto::{
    error::{ApiError, Reason},
    peer,
    v1::{self, cluster_server},
};
use baton_state::{Connection, NodeId};
use tonic::{Request, Response, Status};

use super::{Answers, Services, gone};
use crate::{convert, members};

/// How long a member may take to say how it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// Parts of a backup, of about 256 KiB, that wait for their reader.
const BACKUP_QUEUE: usize = 4;

#[tonic::async_trait]
impl cluster_server::Cluster for Services {
    async fn status(
        &self,
        _request: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        let members = self.cluster_members();
        let raft = self.jobs.raft.status().borrow().clone();
        let state = self.jobs.raft.state();
        let online = state.runners().values().filter(|r| r.connection == Connection::Online);
        Ok(Response::new(v1::ClusterStatusResponse {
            node_id: raft.node_id,
            leader_id: raft.leader_id,
            term: raft.term,
            committed: raft.committed,
            applied: raft.applied,
            members,
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
        let members = self.cluster_members();
        let (leader_id, term, answers) = self.ask_members(&members).await;
        let committed = answers.iter().flatten().map(|answer| answer.committed).max().unwrap_or(0);
        let members = members.into_iter().zip(answers).map(|(member, answer)| {
            let reachable = answer.is_ok();
            let answer = answer.unwrap_or_else(|problem| peer::StatusResponse {
                problem,
                ..peer::StatusResponse::default()
            });
            let missing_files = answer.files.and_then(|files| files.missing);
            let lacking = reachable.then(|| members::lacking(&answer)).flatten();
            let problems = [Some(answer.problem).filter(|problem| !problem.is_empty()), lacking];
            v1::MemberStatus {
                member: Some(member),
                reachable,
                applied: answer.applied,
                lag: if reachable { committed.saturating_sub(answer.applied) } else { 0 },
                disk_free: answer.disk_free,
                disk_total: answer.disk_total,
                problem: problems.into_iter().flatten().collect::<Vec<_>>().join("; "),
                missing_files,
            }
        });
        Ok(Response::new(v1::ListMembersResponse {
            node_id: self.jobs.raft.status().borrow().node_id,
            leader_id,
            term,
            members: members.collect(),
        }))
    }

    async fn join(
        &self,
        request: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        let request = request.into_inner();
        let member = convert::member_from_proto(request)?;
        let node = self.members.admit(member).await?;
        let cluster_id = self.jobs.raft.state().cluster_id().to_owned();
        Ok(Response::new(v1::JoinResponse { cluster_id, node_id: node.0 }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        let node = NodeId(request.get_ref().node_id);
        self.members.check_removal(node).await?;
        let members = self.cluster_members();
        let (_, _, answers) = self.ask_members(&members).await;
        let answers = answers.into_iter().map(Result::ok);
        let members: Vec<_> = members.into_iter().zip(answers).collect();
        members::check_files(&members, node)?;
        self.members.remove(node).await?;
        Ok(Response::new(v1::RemoveMemberResponse {}))
    }

    async fn transfer(
        &self,
        request: Request<v1::TransferRequest>,
    ) -> Result<Response<v1::TransferResponse>, Status> {
        let wanted = request.get_ref().node_id;
        let wanted = (wanted != 0).then_some(NodeId(wanted));
        let leader = self.members.transfer(wanted).await?;
        Ok(Response::new(v1::TransferResponse { leader_id: leader.0 }))
    }

    type BackupStream = Answers<v1::BackupResponse>;

    async fn backup(
        &self,
        _request: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        let backups = self.backups.clone();
        let parts = self.stream_queueing(BACKUP_QUEUE, |answers| async move {
            // The last part goes with what is known only when all are made.
            let last = Arc::new(Mutex::new(None));
            let (newest, sending) = (Arc::clone(&last), answers.clone());
            let sink = move |part: Vec<u8>| {
                let before = newest.lock().unwrap_or_else(PoisonError::into_inner).replace(part);
                let Some(part) = before else { return Ok(()) };
                let sent = sending.blocking_send(v1::BackupResponse { part, missing_files: 0 });
                sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
            };
            let missing_files = backups.make(Box::new(sink)).await?.missing_files;
            let last = last.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(part) = last {
                answers.send(v1::BackupResponse { part, missing_files }).await.map_err(gone)?;
            }
            Ok(())
        });
        Ok(Response::new(parts))
    }
}

impl Services {
    /// The members, as this node's log has them.
    fn cluster_members(&self) -> Vec<v1::ClusterMember> {
        let raft = self.jobs.raft.status().borrow().clone();
        let state = self.jobs.raft.state();
        let members = state.members().iter().map(|(node, member)| v1::ClusterMember {
            node_id: node.0,
            voter: raft.voters.contains(&node.0),
            address: member.address.clone(),
            peer_address: member.peer_address.clone(),
            version: member.version.clone(),
        });
        members.collect()
    }

    /// The leader and the term of whoever knows the newest, and each member's answer, or why
    /// who is at its address does not answer for it; empty if nobody does.
    async fn ask_members(
        &self,
        members: &[v1::ClusterMember],
    ) -> (u64, u64, Vec<Result<peer::StatusResponse, String>>) {
        let this = self.jobs.raft.status().borrow().node_id;
        let answers = members.iter().map(async |member| {
            if member.node_id == this {
                return Ok(self.peers.own_status());
            }
            let node = NodeId(member.node_id);
            let request = peer::StatusRequest { hello: Some(self.peers.directory.hello(node)) };
            let mut client = self.peers.directory.peer(node).ok_or_else(String::new)?.control();
            let answer = tokio::time::timeout(ANSWER_WITHIN, client.status(request)).await;
            let answer = answer.map_err(|_| String::new())?;
            let refused = |status: Status| refusal(&status, &member.peer_address);
            answer.map(Response::into_inner).map_err(refused)
        });
        let answers = futures::future::join_all(answers).await;
        let newest = answers.iter().flatten().max_by_key(|answer| (answer.term, answer.leader_id));
        let (leader_id, term) = newest.map_or((0, 0), |newest| (newest.leader_id, newest.term));
        (leader_id, term, answers)
    }
}

/// What keeps whoever is at a member's address from answering for it; nothing where nobody is.
fn refusal(status: &Status, address: &str) -> String {
    match ApiError::from_status(status) {
        Some(refused) if refused.reason == Reason::WrongCluster => {
            format!("another cluster answers at {address}: {refused}")
        }
        Some(refused) if refused.reason == Reason::WrongNode => {
            format!("another member answers at {address}: {refused}")
        }
        Some(refused) => format!("it refuses to answer: {refused}"),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_answers_in_the_place_of_a_member_is_told() {
        let other = ApiError::new(Reason::WrongCluster, "this is cluster a, not b", "");
        assert_eq!(
            refusal(&other.into(), "c2:7701"),
            "another cluster answers at c2:7701: this is cluster a, not b"
        );
        assert_eq!(refusal(&Status::unavailable("connection refused"), "c2:7701"), "");
    }
}
