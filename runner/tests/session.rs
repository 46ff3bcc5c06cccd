//! Which coordinator a runner keeps its session with, as leaders come and go.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong fails the test")]

use std::{
    net::TcpListener,
    sync::{Arc, Mutex},
    time::Duration,
};

use baton_client::Endpoint;
use baton_proto::{
    error::{ApiError, Reason},
    v1::{
        self,
        cluster_server::{Cluster, ClusterServer},
        runners_server::{Runners, RunnersServer},
        session_request, session_response,
    },
};
use baton_runner::{Config, Runner};
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tempfile::TempDir;
use tokio::{
    runtime::Runtime,
    sync::watch,
    time::{Instant, timeout},
};
use tokio_stream::wrappers::{TcpListenerStream, WatchStream};
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// More than enough for anything here to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a coordinator says to a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Says {
    Welcome,
    Redirect(String),
    NoLeader,
}

/// A coordinator that knows nothing but who leads.
#[derive(Clone)]
struct Fake {
    says: watch::Receiver<Says>,
    /// The hellos that it welcomed.
    welcomed: Arc<watch::Sender<usize>>,
    /// What it was asked, in all.
    asked: Arc<Mutex<usize>>,
}

type Answer = Result<v1::SessionResponse, Status>;

fn answer(says: &Says) -> Answer {
    let item = match says {
        Says::Welcome => session_response::Item::Welcome(v1::Welcome {
            heartbeat_interval: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            lease_ttl: Some(prost_types::Duration { seconds: 180, nanos: 0 }),
        }),
        Says::Redirect(leader) => {
            session_response::Item::Redirect(v1::Redirect { leader: leader.clone() })
        }
        Says::NoLeader => return Err(ApiError::new(Reason::NoLeader, "nobody leads", "").into()),
    };
    Ok(v1::SessionResponse { item: Some(item) })
}

#[tonic::async_trait]
impl Runners for Fake {
    type SessionStream = BoxStream<'static, Answer>;
    type SendLogStream = BoxStream<'static, Result<v1::SendLogResponse, Status>>;
    type FetchSourceStream = BoxStream<'static, Result<v1::FileChunk, Status>>;
    type SendContentStream = BoxStream<'static, Result<v1::UploadResponse, Status>>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let mut requests = request.into_inner();
        let hello = requests.message().await?.and_then(|request| request.item);
        assert!(matches!(hello, Some(session_request::Item::Hello(_))), "{hello:?}");
        *self.asked.lock().unwrap() += 1;
        if *self.says.borrow() == Says::Welcome {
            self.welcomed.send_modify(|count| *count += 1);
        }
        // Whatever else it says is its last word.
        let mut over = false;
        let answers = WatchStream::new(self.says.clone()).map(|says| answer(&says));
        let answers = answers.take_while(move |answer| {
            let goes_on = !over;
            let item = answer.as_ref().ok().and_then(|answer| answer.item.as_ref());
            over = !matches!(item, Some(session_response::Item::Welcome(_)));
            std::future::ready(goes_on)
        });
        // The requests go on for as long as somebody listens.
        let listening =
            stream::once(async move { while let Ok(Some(_)) = requests.message().await {} });
        let listening = listening.filter_map(async |()| None);
        Ok(Response::new(stream::select(answers, listening).boxed()))
    }

    async fn send_log(
        &self,
        _: Request<Streaming<v1::SendLogRequest>>,
    ) -> Result<Response<Self::SendLogStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_source(
        &self,
        _: Request<v1::FetchSourceRequest>,
    ) -> Result<Response<Self::FetchSourceStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn find_missing(
        &self,
        _: Request<v1::FindMissingContentRequest>,
    ) -> Result<Response<v1::FindMissingResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn send_content(
        &self,
        _: Request<Streaming<v1::SendContentRequest>>,
    ) -> Result<Response<Self::SendContentStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list(
        &self,
        _: Request<v1::ListRunnersRequest>,
    ) -> Result<Response<v1::ListRunnersResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get(
        &self,
        _: Request<v1::GetRunnerRequest>,
    ) -> Result<Response<v1::GetRunnerResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn remove(
        &self,
        _: Request<v1::RemoveRunnerRequest>,
    ) -> Result<Response<v1::RemoveRunnerResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn cordon(
        &self,
        _: Request<v1::CordonRunnerRequest>,
    ) -> Result<Response<v1::CordonRunnerResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn drain(
        &self,
        _: Request<v1::DrainRunnerRequest>,
    ) -> Result<Response<v1::DrainRunnerResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn resume(
        &self,
        _: Request<v1::ResumeRunnerRequest>,
    ) -> Result<Response<v1::ResumeRunnerResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn set_labels(
        &self,
        _: Request<v1::SetRunnerLabelsRequest>,
    ) -> Result<Response<v1::SetRunnerLabelsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn checks(
        &self,
        _: Request<v1::ListChecksRequest>,
    ) -> Result<Response<v1::ListChecksResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn lift(
        &self,
        _: Request<v1::LiftQuarantineRequest>,
    ) -> Result<Response<v1::LiftQuarantineResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl Cluster for Fake {
    async fn status(
        &self,
        _: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        Ok(Response::new(v1::ClusterStatusResponse::default()))
    }

    async fn members(
        &self,
        _: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn join(
        &self,
        _: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn remove(
        &self,
        _: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn transfer(
        &self,
        _: Request<v1::TransferRequest>,
    ) -> Result<Response<v1::TransferResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type BackupStream = tokio_stream::Empty<Result<v1::BackupResponse, Status>>;

    async fn backup(
        &self,
        _: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented(""))
    }
}

struct Coordinator {
    address: String,
    says: watch::Sender<Says>,
    welcomed: watch::Receiver<usize>,
    asked: Arc<Mutex<usize>>,
    runtime: Option<Runtime>,
}

impl Coordinator {
    fn start(says: Says) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (says, heard) = watch::channel(says);
        let (welcome, welcomed) = watch::channel(0);
        let asked = Arc::<Mutex<usize>>::default();
        let fake = Fake { says: heard, welcomed: Arc::new(welcome), asked: Arc::clone(&asked) };
        let runtime = Runtime::new().unwrap();
        // It ends with its runtime.
        drop(runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            Server::builder()
                .add_service(RunnersServer::new(fake.clone()))
                .add_service(ClusterServer::new(fake))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
        }));
        Self { address, says, welcomed, asked, runtime: Some(runtime) }
    }

    fn says(&self, says: Says) {
        self.says.send_replace(says);
    }

    fn leader(&self) -> Says {
        Says::Redirect(self.address.clone())
    }

    async fn welcomed(&mut self, times: usize) {
        let reached = self.welcomed.wait_for(|count| *count >= times);
        timeout(PATIENCE, reached).await.expect("the runner comes").unwrap();
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn runner(coordinators: &[&Coordinator]) -> (Runner, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let addresses: Vec<_> = coordinators.iter().map(|one| one.address.as_str()).collect();
    let endpoint = Endpoint::new(&addresses.join(","), "token").unwrap();
    let config = Config::new(folder.path().join("runner"), endpoint, "runner".to_owned());
    (Runner::start(config).await.unwrap(), folder)
}

#[tokio::test]
async fn a_runner_finds_the_leader_also_when_its_list_does_not_have_it() {
    let mut leader = Coordinator::start(Says::Welcome);
    let mut gone = Coordinator::start(Says::NoLeader);
    let follower = Coordinator::start(leader.leader());
    gone.kill();
    let (runner, _folder) = runner(&[&gone, &follower]).await;
    leader.welcomed(1).await;
    runner.stop().await;
}

#[tokio::test]
async fn a_runner_goes_where_its_leader_sends_it() {
    let (mut one, mut other) =
        (Coordinator::start(Says::Welcome), Coordinator::start(Says::Welcome));
    let (runner, _folder) = runner(&[&one]).await;
    for round in 1..4 {
        one.welcomed(round).await;
        let begun = Instant::now();
        one.says(other.leader());
        other.welcomed(round).await;
        one.says(Says::Welcome);
        other.says(one.leader());
        one.welcomed(round + 1).await;
        other.says(Says::Welcome);
        assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    }
    runner.stop().await;
}

#[tokio::test]
async fn a_runner_goes_round_its_list_until_somebody_leads() {
    let mut leader = Coordinator::start(Says::Welcome);
    let mut second = Coordinator::start(leader.leader());
    let third = Coordinator::start(leader.leader());
    let (runner, _folder) = runner(&[&leader, &second, &third]).await;
    leader.welcomed(1).await;
    let all_asked = async |times| {
        for coordinator in [&second, &third] {
            timeout(PATIENCE, async {
                while *coordinator.asked.lock().unwrap() < times {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            })
            .await
            .expect("it is asked");
        }
    };
    leader.kill();
    second.says(Says::NoLeader);
    third.says(Says::NoLeader);
    all_asked(3).await;
    let begun = Instant::now();
    second.says(Says::Welcome);
    third.says(second.leader());
    second.welcomed(1).await;
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    runner.stop().await;
}

#[tokio::test]
async fn a_runner_keeps_its_list_when_it_is_sent_on() {
    let mut leader = Coordinator::start(Says::Welcome);
    let mut listed = Coordinator::start(leader.leader());
    let (runner, _folder) = runner(&[&listed]).await;
    leader.welcomed(1).await;
    listed.says(Says::Welcome);
    leader.kill();
    listed.welcomed(1).await;
    runner.stop().await;
}
