//! The Cluster service.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use baton_proto::v1::{self, cluster_server};
use baton_state::{Connection, NodeId};
use tonic::{Request, Response, Status};

use super::{Answers, Services, gone};
use crate::{convert, members};

/// Parts of a backup, of about 256 KiB, that wait for their reader.
const BACKUP_QUEUE: usize = 4;

#[tonic::async_trait]
impl cluster_server::Cluster for Services {
    async fn status(
        &self,
        _request: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        let members = self.roster.members();
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
        let v1::Members { leader_id, term, members } = self.roster.statuses().await;
        let node_id = self.jobs.raft.status().borrow().node_id;
        Ok(Response::new(v1::ListMembersResponse { node_id, leader_id, term, members }))
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
        let progress = self.members.check_removal(node).await?;
        let (_, _, answers) = self.roster.ask(&self.roster.members()).await;
        members::check_files(&progress, &answers, node)?;
        // It looks again: that took some time.
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
