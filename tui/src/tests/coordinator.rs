//! A coordinator that breaks off, refuses and hesitates, as a script says.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
};

use baton_client::Endpoint;
use baton_proto::v1::{
    BackupRequest, BackupResponse, ClusterStatusRequest, ClusterStatusResponse, JoinRequest,
    JoinResponse, ListEventsRequest, ListEventsResponse, ListMembersRequest, ListMembersResponse,
    ListQueuesRequest, ListQueuesResponse, Overview, PauseQueueRequest, PauseQueueResponse,
    RemoveMemberRequest, RemoveMemberResponse, ResumeQueueRequest, ResumeQueueResponse,
    TransferRequest, TransferResponse, WatchFleetRequest, WatchFleetResponse, WhoAmIRequest,
    WhoAmIResponse,
    cluster_server::{Cluster, ClusterServer},
    fleet_server::{Fleet, FleetServer},
    queues_server::{Queues, QueuesServer},
};
use futures::{Stream, StreamExt as _, stream};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use super::fixtures::admin;

/// What a watch is answered with.
pub(crate) enum Answer {
    /// So many answers with this term, and then the stream breaks.
    Break(u64),
    /// One answer with this term, and then nothing more.
    Hold(u64),
    /// This, and then nothing more.
    Fleet(Box<WatchFleetResponse>),
    Refuse,
}

#[derive(Clone, Default)]
pub(crate) struct Coordinator(pub(crate) Arc<Mutex<Script>>);

#[derive(Default)]
pub(crate) struct Script {
    /// How watches are answered, one after the other; the last one is kept to.
    pub(crate) watches: VecDeque<Answer>,
    /// How often a pause fails before it is answered.
    pub(crate) pauses_fail: usize,
    pub(crate) keys: Vec<String>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Fleet for Coordinator {
    type WatchStream = Answers<WatchFleetResponse>;

    async fn watch(
        &self,
        _: Request<WatchFleetRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let told = |term| {
            let overview = Some(Overview { term, ..Overview::default() });
            Ok(WatchFleetResponse { overview, ..WatchFleetResponse::default() })
        };
        let broken = Err(Status::unavailable("the leader went away"));
        let answer = self.0.lock().unwrap().watches.pop_front();
        let answers: Self::WatchStream = match answer {
            Some(Answer::Break(term)) => stream::iter([told(term), broken]).boxed(),
            Some(Answer::Hold(term)) => stream::iter([told(term)]).chain(stream::pending()).boxed(),
            Some(Answer::Fleet(update)) => {
                stream::iter([Ok(*update)]).chain(stream::pending()).boxed()
            }
            Some(Answer::Refuse) => return Err(Status::unimplemented("no such thing")),
            None => stream::pending().boxed(),
        };
        Ok(Response::new(answers))
    }

    async fn events(
        &self,
        _: Request<ListEventsRequest>,
    ) -> Result<Response<ListEventsResponse>, Status> {
        Ok(Response::new(ListEventsResponse::default()))
    }

    async fn who_am_i(
        &self,
        _: Request<WhoAmIRequest>,
    ) -> Result<Response<WhoAmIResponse>, Status> {
        Ok(Response::new(admin()))
    }
}

#[tonic::async_trait]
impl Queues for Coordinator {
    async fn list(
        &self,
        _: Request<ListQueuesRequest>,
    ) -> Result<Response<ListQueuesResponse>, Status> {
        Ok(Response::new(ListQueuesResponse::default()))
    }

    async fn pause(
        &self,
        request: Request<PauseQueueRequest>,
    ) -> Result<Response<PauseQueueResponse>, Status> {
        let mut script = self.0.lock().unwrap();
        script.keys.push(request.into_inner().idempotency_key);
        if script.keys.len() <= script.pauses_fail {
            return Err(Status::unavailable("no leader"));
        }
        Ok(Response::new(PauseQueueResponse {}))
    }

    async fn resume(
        &self,
        _: Request<ResumeQueueRequest>,
    ) -> Result<Response<ResumeQueueResponse>, Status> {
        Err(Status::unimplemented("not at all"))
    }
}

#[tonic::async_trait]
impl Cluster for Coordinator {
    type BackupStream = Answers<BackupResponse>;

    async fn status(
        &self,
        _: Request<ClusterStatusRequest>,
    ) -> Result<Response<ClusterStatusResponse>, Status> {
        Ok(Response::new(ClusterStatusResponse {
            leader_id: 1,
            ..ClusterStatusResponse::default()
        }))
    }

    async fn members(
        &self,
        _: Request<ListMembersRequest>,
    ) -> Result<Response<ListMembersResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn join(&self, _: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn remove(
        &self,
        _: Request<RemoveMemberRequest>,
    ) -> Result<Response<RemoveMemberResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn transfer(
        &self,
        _: Request<TransferRequest>,
    ) -> Result<Response<TransferResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn backup(
        &self,
        _: Request<BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

impl Coordinator {
    /// Serves in `tasks`; says where.
    pub(crate) async fn serve(self, tasks: &mut JoinSet<()>) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let server = Server::builder()
            .add_service(FleetServer::new(self.clone()))
            .add_service(QueuesServer::new(self.clone()))
            .add_service(ClusterServer::new(self))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tasks.spawn(async { server.await.unwrap() });
        Endpoint::new(&address, "token").unwrap()
    }
}
