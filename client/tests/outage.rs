//! Following and uploading over a server that breaks every stream after a few
//! messages: nothing may be missing and nothing may come twice.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use baton_client::{
    Archive, Connection, Endpoint, LogEvent, LogOptions, LogUntil, Patience, UploadProgress,
    WatchEvent, read_log, upload, watch,
};
use baton_proto::{
    error::{ApiError, Reason},
    v1::{
        self,
        cluster_server::{Cluster, ClusterServer},
        jobs_server::{Jobs, JobsServer},
        logs_request::Start,
        logs_response::Item,
        upload_request,
    },
};
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming, transport::Server};

/// Pieces of each attempt's output.
const PIECES: u64 = 10;
/// Messages after which a stream breaks.
const BREAK_AFTER: usize = 3;
const PATIENCE: Patience = Patience(Duration::from_secs(60));

#[derive(Default)]
struct Facts {
    /// The first attempt's output was read to its end, so its runner is lost.
    first_lost: bool,
    /// The second attempt's output was read to its end, so the job has ended.
    ended: bool,
    stored: Vec<u8>,
    uploads: usize,
    watches: usize,
    /// Every call fails.
    away: bool,
    /// The record of the second attempt has other bytes.
    damaged: bool,
}

#[derive(Clone, Default)]
struct Fragile(Arc<Mutex<Facts>>);

fn numbers(attempt: u32) -> String {
    (0..PIECES).map(|number| format!("{attempt}:{number} ")).collect()
}

fn broken() -> Status {
    Status::unavailable("broken on purpose")
}

impl Fragile {
    fn job(&self) -> v1::Job {
        let facts = self.0.lock().unwrap();
        let outcome =
            |state: v1::JobState| v1::Outcome { state: state.into(), ..Default::default() };
        let state = if facts.ended { v1::JobState::Succeeded } else { v1::JobState::Running };
        let mut attempts = vec![v1::Attempt {
            number: 1,
            outcome: facts.first_lost.then(|| outcome(v1::JobState::Lost)),
            ..Default::default()
        }];
        if facts.first_lost {
            attempts.push(v1::Attempt { number: 2, ..Default::default() });
        }
        v1::Job { id: "J".to_owned(), state: state.into(), attempts, ..Default::default() }
    }

    fn log(&self, request: &v1::LogsRequest) -> Vec<Result<v1::LogsResponse, Status>> {
        let item = |item| Ok(v1::LogsResponse { item: Some(item) });
        let attempt = request.attempt;
        let from = match request.start {
            Some(Start::Position(position)) => position,
            Some(Start::Offset(_)) | None => 0,
        };
        let start = v1::LogStart { attempt, lease: u64::from(attempt) };
        let mut items = vec![item(Item::Start(start))];
        for number in from..PIECES {
            items.push(item(Item::Piece(v1::LogPiece {
                stream: v1::LogStream::Stdout.into(),
                data: Bytes::from(format!("{attempt}:{number} ")),
                next: number + 1,
                ..Default::default()
            })));
        }
        let mut facts = self.0.lock().unwrap();
        if items.len() > BREAK_AFTER {
            items.truncate(BREAK_AFTER);
            items.push(Err(broken()));
        } else if attempt == 1 {
            facts.first_lost = true;
        } else {
            facts.ended = true;
            let mut whole = numbers(attempt);
            if facts.damaged {
                whole.replace_range(..1, "9");
            }
            items.push(item(Item::End(v1::LogEnd {
                stdout_length: whole.len() as u64,
                stdout_blake3: blake3::hash(whole.as_bytes()).to_string(),
                stderr_blake3: blake3::hash(b"").to_string(),
                ..Default::default()
            })));
        }
        items
    }
}

#[tonic::async_trait]
impl Jobs for Fragile {
    type WatchStream = BoxStream<'static, Result<v1::WatchJobResponse, Status>>;
    type LogsStream = BoxStream<'static, Result<v1::LogsResponse, Status>>;
    type UploadStream = BoxStream<'static, Result<v1::UploadResponse, Status>>;

    async fn get(
        &self,
        _: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobResponse>, Status> {
        Ok(Response::new(v1::GetJobResponse { job: Some(self.job()) }))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if request.get_ref().job_id != "J" {
            return Err(ApiError::new(Reason::JobNotFound, "no such job", "").into());
        }
        let job = self.job();
        let mut facts = self.0.lock().unwrap();
        facts.watches += 1;
        if facts.away || facts.watches.is_multiple_of(2) {
            return Err(broken());
        }
        let update = v1::WatchJobResponse { job: Some(job), waiting: None };
        Ok(Response::new(stream::iter([Ok(update), Err(broken())]).boxed()))
    }

    async fn logs(
        &self,
        request: Request<v1::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        Ok(Response::new(stream::iter(self.log(request.get_ref())).boxed()))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        let mut requests = request.into_inner();
        let open = requests.message().await?.and_then(|request| request.item);
        let Some(upload_request::Item::Open(open)) = open else { return Err(broken()) };
        let durable = {
            let mut facts = self.0.lock().unwrap();
            facts.uploads += 1;
            facts.stored.len() as u64
        };
        let facts = Arc::clone(&self.0);
        let first = v1::UploadResponse { durable, complete: durable == open.size };
        let answers = stream::unfold((requests, 0), move |(mut requests, taken)| {
            let (facts, size) = (Arc::clone(&facts), open.size);
            async move {
                if taken > BREAK_AFTER {
                    return None;
                }
                let answer = match requests.message().await {
                    _ if taken == BREAK_AFTER => Err(broken()),
                    Ok(Some(v1::UploadRequest {
                        item: Some(upload_request::Item::Chunk(chunk)),
                    })) => {
                        let mut facts = facts.lock().unwrap();
                        assert_eq!(chunk.offset, facts.stored.len() as u64, "a gap or a repeat");
                        facts.stored.extend_from_slice(&chunk.data);
                        let durable = facts.stored.len() as u64;
                        Ok(v1::UploadResponse { durable, complete: durable == size })
                    }
                    _ => Err(broken()),
                };
                Some((answer, (requests, taken + 1)))
            }
        });
        Ok(Response::new(stream::iter([Ok(first)]).chain(answers).boxed()))
    }

    async fn submit(
        &self,
        _: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list(
        &self,
        _: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn cancel(
        &self,
        _: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn retry(
        &self,
        _: Request<v1::RetryJobRequest>,
    ) -> Result<Response<v1::RetryJobResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn why(&self, _: Request<v1::WhyRequest>) -> Result<Response<v1::WhyResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl Cluster for Fragile {
    async fn status(
        &self,
        _: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        Ok(Response::new(v1::ClusterStatusResponse::default()))
    }
}

struct Fixture {
    server: Fragile,
    connection: Connection,
    _serving: JoinSet<()>,
}

async fn fixture() -> Fixture {
    let server = Fragile::default();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let jobs = JobsServer::new(server.clone());
    let cluster = ClusterServer::new(server.clone());
    let mut serving = JoinSet::new();
    serving.spawn(async move {
        let incoming = TcpListenerStream::new(listener);
        let router = Server::builder().add_service(jobs).add_service(cluster);
        router.serve_with_incoming(incoming).await.unwrap();
    });
    let endpoint = Endpoint::new(&address, "token").unwrap();
    let connection = Connection::connect(endpoint, Duration::from_secs(30)).await.unwrap();
    Fixture { server, connection, _serving: serving }
}

fn whole_job() -> LogOptions {
    LogOptions {
        job_id: "J".to_owned(),
        attempt: 1,
        stream: v1::LogStream::Unspecified,
        offset: 0,
        until: LogUntil::JobEnd,
    }
}

#[tokio::test]
async fn output_comes_once_and_in_order_over_broken_streams_and_attempts() {
    let fixture = fixture().await;
    let mut events = read_log(fixture.connection.clone(), whole_job(), PATIENCE);
    let (mut text, mut told, mut breaks) = (String::new(), Vec::new(), 0);
    while let Some(event) = events.next().await {
        match event.unwrap() {
            LogEvent::Piece(piece) => text.push_str(std::str::from_utf8(&piece.data).unwrap()),
            LogEvent::Attempt(number) => told.push(format!("attempt {number}")),
            LogEvent::End { attempt, end } => {
                told.push(format!("end {attempt} {}", end.map_or(0, |end| end.stdout_length)));
            }
            LogEvent::Reconnecting { .. } => breaks += 1,
            LogEvent::Reconnected => {}
        }
    }
    assert_eq!(text, numbers(1) + &numbers(2));
    assert_eq!(told, ["attempt 1", "end 1 0", "attempt 2", "end 2 40"]);
    assert!(breaks >= 6, "the streams broke {breaks} times only");
}

#[tokio::test]
async fn output_that_is_not_what_was_recorded_ends_with_an_error_instead_of_its_end() {
    let fixture = fixture().await;
    fixture.server.0.lock().unwrap().damaged = true;
    let events = read_log(fixture.connection.clone(), whole_job(), PATIENCE);
    let mut events: Vec<_> = events.collect().await;
    let error = events.pop().unwrap().unwrap_err();
    assert_eq!(error.refusal().unwrap().reason, Reason::ChecksumMismatch);
    let ends = |event: &_| matches!(event, Ok(LogEvent::End { attempt: 2, .. }));
    assert!(!events.iter().any(ends), "{events:?}");
    let came = |event: &_| matches!(event, Ok(LogEvent::Piece(_)));
    assert_eq!(events.into_iter().filter(came).count() as u64, 2 * PIECES);
}

#[tokio::test]
async fn a_watch_goes_on_to_the_final_state() {
    let fixture = fixture().await;
    let mut changes = watch(fixture.connection.clone(), "J", PATIENCE);
    let mut last = None;
    while let Some(change) = changes.next().await {
        match change.unwrap() {
            WatchEvent::Update { job, .. } => last = Some(job),
            WatchEvent::Reconnecting { .. } => fixture.server.0.lock().unwrap().ended = true,
            WatchEvent::Reconnected => {}
        }
    }
    assert_eq!(last.unwrap().state(), v1::JobState::Succeeded);
    assert!(fixture.server.0.lock().unwrap().watches > 1);
}

#[tokio::test]
async fn a_refusal_ends_the_stream_at_once() {
    let fixture = fixture().await;
    let mut changes = watch(fixture.connection.clone(), "other", PATIENCE);
    let error = changes.next().await.unwrap().unwrap_err();
    assert_eq!(error.refusal().unwrap().reason, Reason::JobNotFound);
    assert!(changes.next().await.is_none());
}

#[tokio::test]
async fn a_server_that_stays_away_is_given_up_after_one_notice() {
    let fixture = fixture().await;
    fixture.server.0.lock().unwrap().away = true;
    let patience = Patience(Duration::from_millis(200));
    let events = read_log(fixture.connection.clone(), whole_job(), patience);
    let events: Vec<_> = events.collect().await;
    assert!(matches!(events[0], Ok(LogEvent::Reconnecting { .. })), "{events:?}");
    assert!(events[1].as_ref().is_err_and(baton_client::ClientError::is_temporary), "{events:?}");
    assert_eq!(events.len(), 2);
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let endpoint = Endpoint::new(&address, "token").unwrap();
    let error = Connection::connect(endpoint, Duration::from_secs(30)).await.err().unwrap();
    assert!(error.to_string().contains("refused"), "{error}");
    assert!(error.is_temporary());
}

struct Random(Vec<u8>);

impl Archive for Random {
    fn digest(&self) -> &str {
        "digest"
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn chunk(&self, offset: u64) -> io::Result<Bytes> {
        let rest = self.0.get(usize::try_from(offset).unwrap()..).unwrap();
        Ok(Bytes::copy_from_slice(&rest[..rest.len().min(baton_proto::MAX_CHUNK)]))
    }
}

#[tokio::test]
async fn an_upload_goes_on_where_it_broke() {
    let fixture = fixture().await;
    let archive = Random((0..8 * 1024 * 1024 + 5_u32).map(|n| (n % 251) as u8).collect());
    let (mut furthest, mut breaks) = (0, 0);
    upload(&fixture.connection, &archive, PATIENCE, |progress| match progress {
        UploadProgress::Durable(durable) => furthest = furthest.max(durable),
        UploadProgress::Reconnecting { .. } => breaks += 1,
    })
    .await
    .unwrap();
    let facts = fixture.server.0.lock().unwrap();
    assert!(facts.stored == archive.0, "other bytes arrived");
    assert_eq!(furthest, archive.size());
    assert!(breaks >= 2 && facts.uploads > breaks, "{breaks} breaks, {} streams", facts.uploads);
}

#[tokio::test]
async fn an_archive_that_is_there_already_is_not_sent_again() {
    let fixture = fixture().await;
    let archive = Random(vec![7; 100]);
    fixture.server.0.lock().unwrap().stored.clone_from(&archive.0);
    upload(&fixture.connection, &archive, PATIENCE, |_| ()).await.unwrap();
    assert_eq!(fixture.server.0.lock().unwrap().uploads, 1);
}

#[tokio::test]
async fn a_listener_that_says_nothing_does_not_count_as_reached() {
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Endpoint::new(&mute.local_addr().unwrap().to_string(), "token").unwrap();
    let connected = Connection::connect(endpoint, Duration::from_millis(200)).await;
    let error = connected.err().unwrap();
    assert!(error.is_temporary());
    assert_eq!(error.to_string(), "no answer in time");
}
