//! The services of the API, one file each: they read a request, call what does
//! the work, and write the answer. No decision is made here.

mod artifacts;
mod cluster;
mod fleet;
mod forward;
mod jobs;
mod logs;
mod queues;
mod readers;
mod runners;
mod search_log;
mod send_log;
mod upload;
mod watch;

use std::{pin::Pin, time::Duration};

use baton_proto::{
    DESCRIPTORS,
    error::ApiError,
    v1::{
        cluster_server::ClusterServer, fleet_server::FleetServer, jobs_server::JobsServer,
        queues_server::QueuesServer, runners_server::RunnersServer,
    },
};
use baton_state::JobId;
use futures::{Stream, StreamExt as _};
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{
    Request, Status, codec::CompressionEncoding, service::interceptor::InterceptedService,
    transport::Server,
};

use self::forward::ForwardLayer;
pub(crate) use self::{
    readers::Readers,
    send_log::{LogStore, send_log},
};
use crate::{
    auth::{self, Authenticator},
    backup::Backups,
    connections::{Limits, incoming},
    convert,
    dispatch::Dispatch,
    errors::{no_leader, stopping},
    fleet::Fleet,
    jobs::Jobs,
    leadership::Leadership,
    members::Members,
    roster::Roster,
};

/// What a stream of answers is.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// Messages that wait for a slow reader of a stream.
const ANSWER_QUEUE: usize = 64;

/// Bytes on their way to a reader of a stream who does not read.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// Never the limit: a coordinator sends everybody's calls on over one connection, and
/// those that do not read must not hold up the others.
const CONNECTION_WINDOW: u32 = 1 << 30;

/// What the services share.
#[derive(Clone)]
pub(crate) struct Services {
    pub(crate) jobs: Jobs,
    pub(crate) fleet: Fleet,
    pub(crate) roster: Roster,
    pub(crate) dispatch: Dispatch,
    pub(crate) backups: Backups,
    pub(crate) members: Members,
    pub(crate) leadership: Leadership,
    pub(crate) archive_limit: u64,
    pub(crate) tree_limit: u64,
    pub(crate) readers: Readers,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Services {
    /// The job that a request names, if its caller may ask about it.
    fn permitted<T>(&self, request: &Request<T>, id: &str) -> Result<JobId, ApiError> {
        let job = job_id(id)?;
        auth::check_job(request, &self.jobs.raft.state(), job)?;
        Ok(job)
    }

    /// Answers with what `work` sends, until it ends, the caller leaves, or the
    /// coordinator stops or leads no more: cut off, it would have nothing new to tell.
    fn stream<T, W, F>(&self, work: W) -> Answers<T>
    where
        T: Send + 'static,
        W: FnOnce(mpsc::Sender<T>) -> F,
        F: Future<Output = Result<(), ApiError>> + Send + 'static,
    {
        self.stream_queueing(ANSWER_QUEUE, work)
    }

    /// As [`Services::stream`], where at most `queue` answers wait.
    fn stream_queueing<T, W, F>(&self, queue: usize, work: W) -> Answers<T>
    where
        T: Send + 'static,
        W: FnOnce(mpsc::Sender<T>) -> F,
        F: Future<Output = Result<(), ApiError>> + Send + 'static,
    {
        let (sender, receiver) = mpsc::channel(queue);
        let (last_word, end) = tokio::sync::oneshot::channel();
        let work = work(sender.clone());
        let (stop, mut leadership) = (self.stop.clone(), self.leadership.clone());
        self.tasks.spawn(async move {
            let result = tokio::select! {
                result = work => result,
                () = sender.closed() => Ok(()),
                () = stop.cancelled() => Err(stopping()),
                () = leadership.lost() => Err(no_leader()),
            };
            // The caller may have left.
            let _ = last_word.send(result);
        });
        let end = futures::stream::once(end).filter_map(async |result| match result {
            Ok(Err(error)) => Some(Err(Status::from(error))),
            Ok(Ok(())) | Err(_) => None,
        });
        ReceiverStream::new(receiver).map(Ok).chain(end).boxed()
    }
}

/// The caller has left while something was sent to it: nobody to tell.
fn gone<T>(_: mpsc::error::SendError<T>) -> ApiError {
    stopping()
}

fn job_id(text: &str) -> Result<JobId, ApiError> {
    text.parse().map_err(|error| convert::invalid("job_id", error))
}

/// Serves the API until `stop` is cancelled.
pub(crate) async fn serve(
    services: Services,
    authenticator: Authenticator,
    listener: TcpListener,
) -> Result<(), tonic::transport::Error> {
    let stop = services.stop.clone();
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_serving::<JobsServer<Services>>().await;
    health.set_serving::<RunnersServer<Services>>().await;
    health.set_serving::<QueuesServer<Services>>().await;
    health.set_serving::<ClusterServer<Services>>().await;
    health.set_serving::<FleetServer<Services>>().await;
    let mut node = services.jobs.raft.status();
    services.tasks.spawn(services.stop.clone().run_until_cancelled_owned(async move {
        // Gone or failed: load balancers must look elsewhere.
        let _ = node.wait_for(|status| status.failure.is_some()).await;
        health.set_not_serving::<JobsServer<Services>>().await;
        health.set_not_serving::<RunnersServer<Services>>().await;
        health.set_not_serving::<QueuesServer<Services>>().await;
        health.set_not_serving::<ClusterServer<Services>>().await;
        health.set_not_serving::<FleetServer<Services>>().await;
    }));
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .ok();
    let reflection_alpha = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1alpha()
        .ok();
    let auth = authenticator;
    let forward = ForwardLayer::new(
        services.jobs.raft.status().borrow().node_id,
        services.leadership.clone(),
        services.roster.peers.reach.follow(),
        auth.clone(),
        services.tasks.clone(),
        services.stop.clone(),
    );
    Server::builder()
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(20)))
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .layer(forward)
        .add_service(health_service)
        .add_optional_service(reflection)
        .add_optional_service(reflection_alpha)
        .add_service(InterceptedService::new(
            JobsServer::new(services.clone()).accept_compressed(CompressionEncoding::Zstd),
            auth.clone(),
        ))
        // Compresses for callers that ask for it.
        .add_service(InterceptedService::new(
            RunnersServer::new(services.clone())
                .accept_compressed(CompressionEncoding::Zstd)
                .send_compressed(CompressionEncoding::Zstd),
            auth.clone(),
        ))
        .add_service(InterceptedService::new(
            FleetServer::new(services.clone())
                .accept_compressed(CompressionEncoding::Zstd)
                .send_compressed(CompressionEncoding::Zstd),
            auth.clone(),
        ))
        .add_service(QueuesServer::with_interceptor(services.clone(), auth.clone()))
        .add_service(ClusterServer::with_interceptor(services, auth))
        .serve_with_incoming_shutdown(
            incoming(listener, Limits::for_callers()),
            stop.cancelled_owned(),
        )
        .await
}
