//! Serves the other members, on a listener of its own.

use std::{net::IpAddr, pin::Pin, sync::Arc, time::Duration};

use baton_proto::peer::{
    FilesStatus, Hello, RaftRequest, RaftResponse, ReadFileRequest, ReadFileResponse,
    SnapshotRequest, SnapshotResponse, StatusRequest, StatusResponse, WatchFilesRequest,
    WatchFilesResponse,
    peer_server::{Peer, PeerServer},
    raft_request::Item,
};
use futures::{Stream, StreamExt as _, stream};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Request, Response, Status, Streaming, service::interceptor::InterceptedService,
    transport::Server,
};
use tracing::warn;

use super::{
    Directory, Outgoing, calls::Calls, directory::MAX_MESSAGE, node::Node, snapshot, twins::Twins,
};
use crate::{
    auth::Authenticator,
    connections::{Caller, Limits, incoming},
    disk::DiskGuard,
    environment::Clock,
    files::Files,
    history::History,
    reach::Reach,
    replication,
};

/// What a stream of answers is.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Pieces of a snapshot that wait for a slow receiver.
const PIECES: usize = 4;

/// What the other members can ask of this one.
#[derive(Clone)]
pub(crate) struct PeerService<N> {
    pub(crate) directory: Arc<Directory>,
    pub(crate) node: N,
    pub(crate) history: History,
    pub(crate) files: Files,
    /// How many stored files this node lacks, if that is known.
    pub(crate) lacking: watch::Receiver<Option<u64>>,
    pub(crate) disk: DiskGuard,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
    pub(crate) snapshots: Arc<Outgoing>,
    pub(crate) calls: Arc<Calls>,
    pub(crate) twins: Arc<Twins>,
    pub(crate) reach: Reach,
    pub(crate) clock: Arc<dyn Clock>,
}

#[tonic::async_trait]
impl<N: Node> Peer for PeerService<N> {
    type RaftStream = Answers<RaftResponse>;
    type SnapshotStream = Answers<SnapshotResponse>;
    type WatchFilesStream = Answers<WatchFilesResponse>;
    type ReadFileStream = Answers<ReadFileResponse>;

    async fn raft(
        &self,
        request: Request<Streaming<RaftRequest>>,
    ) -> Result<Response<Self::RaftStream>, Status> {
        let caller = request.extensions().get::<Caller>().and_then(Caller::host);
        let mut messages = request.into_inner();
        let hello = match messages.message().await?.and_then(|first| first.item) {
            Some(Item::Hello(hello)) => Some(hello),
            _ => None,
        };
        let from = self.directory.check(hello.as_ref())?;
        self.look_for_twins(hello.as_ref(), caller);
        let call = self.calls.begin(from, &self.stop);
        let member = self.clone();
        let taking = self.tasks.spawn(async move {
            let still_member = || member.directory.check(hello.as_ref()).map(|_| ());
            call.take(messages, still_member, &member.node).await
        });
        let end = stream::once(taking).filter_map(async |taken| match taken {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some(Err(status)),
            Err(error) => Some(Err(Status::internal(error.to_string()))),
        });
        Ok(Response::new(end.boxed()))
    }

    async fn snapshot(
        &self,
        request: Request<SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        let request = request.into_inner();
        self.directory.check(request.hello.as_ref())?;
        let (part, offset) = (request.part(), request.offset);
        let part = self.snapshots.open(part, request.index, offset).await?;
        let (pieces, answers) = mpsc::channel(PIECES);
        let sending = snapshot::send(part, offset, pieces);
        self.tasks.spawn(self.stop.clone().run_until_cancelled_owned(sending));
        Ok(Response::new(ReceiverStream::new(answers).boxed()))
    }

    async fn watch_files(
        &self,
        request: Request<WatchFilesRequest>,
    ) -> Result<Response<Self::WatchFilesStream>, Status> {
        self.directory.check(request.get_ref().hello.as_ref())?;
        let files = replication::serve::watch_files(&self.files, self.stop.clone());
        Ok(Response::new(files.map(|told| told.map_err(Status::from)).boxed()))
    }

    async fn read_file(
        &self,
        request: Request<ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let request = request.into_inner();
        self.directory.check(request.hello.as_ref())?;
        let (name, stop) = (request.name.as_ref(), self.stop.clone());
        let file = replication::serve::read_file(&self.files, name, request.offset, stop).await?;
        Ok(Response::new(file.map(|read| read.map_err(Status::from)).boxed()))
    }

    async fn status(
        &self,
        request: Request<StatusRequest>,
    ) -> Result<Response<StatusResponse>, Status> {
        let from = self.directory.check(request.into_inner().hello.as_ref())?;
        // A node that has failed says so all the same.
        let acknowledged = self.node.kept(from).await.unwrap_or_default();
        Ok(Response::new(StatusResponse { acknowledged, ..self.own_status() }))
    }
}

impl<N: Node> PeerService<N> {
    /// Says so when two coordinators run as one member.
    fn look_for_twins(&self, hello: Option<&Hello>, caller: Option<IpAddr>) {
        let twins = hello.and_then(|hello| self.twins.seen(hello, caller, Instant::now()));
        if let (Some(hello), Some([one, other])) = (hello, twins) {
            warn!(
                "two coordinators run as member {}: {one} and {other}; stop the one whose data \
                 folder is a copy, and empty that folder before it joins",
                hello.from
            );
        }
    }

    /// How this node is.
    pub(crate) fn own_status(&self) -> StatusResponse {
        let node = self.node.status();
        let space = self.disk.space().unwrap_or_default();
        let reached = self.reach.now();
        let cut_off = reached.cut_off.map(|cut_off| cut_off.to_string());
        let problem = node.failure.or_else(|| self.history.health());
        let problem = problem.or_else(|| self.history.damage()).or(cut_off);
        StatusResponse {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            leader_id: node.leader_id,
            term: node.term,
            committed: node.committed,
            applied: node.applied,
            disk_free: space.free,
            disk_total: space.total,
            problem: problem.unwrap_or_default(),
            history: *self.history.position().borrow(),
            files: Some(FilesStatus { missing: *self.lacking.borrow() }),
            ways: reached.ways_to_proto(),
            twins: self.twins.now(Instant::now()),
            // For whoever asks: see `status`.
            acknowledged: 0,
            time_ms: self.clock.now().0,
        }
    }
}

/// Serves the other members until the service's `stop` is cancelled.
pub(crate) async fn serve<N: Node>(
    service: PeerService<N>,
    authenticator: Authenticator,
    listener: TcpListener,
) -> Result<(), tonic::transport::Error> {
    let stop = service.stop.clone();
    let service = PeerServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .initial_stream_window_size(1024 * 1024)
        .initial_connection_window_size(8 * 1024 * 1024)
        .add_service(InterceptedService::new(service, authenticator))
        .serve_with_incoming_shutdown(
            incoming(listener, Limits::for_members()),
            stop.cancelled_owned(),
        )
        .await
}
