//! Following and uploading over a server that breaks every stream after a few
//! messages: nothing may be missing and nothing may come twice.

#![expect(clippy::unwrap_used, reason = "what cannot be set up fails the test")]

mod failover;
mod fragile;

use std::{
    io,
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use baton_client::{
    Archive, Connection, Endpoint, LogBegin, LogEvent, LogOptions, LogUntil, Patience,
    UploadProgress, WatchEvent, read_log, upload, watch,
};
use baton_proto::{
    error::Reason,
    v1::{self, cluster_server::ClusterServer, jobs_server::JobsServer},
};
use bytes::Bytes;
use futures::StreamExt as _;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

use fragile::{Facts, Fragile, PIECES, numbers};

const PATIENCE: Patience = Patience(Duration::from_secs(60));

/// A server that can be killed with all its connections.
struct Serving {
    address: String,
    runtime: Option<Runtime>,
}

impl Serving {
    fn start(server: &Fragile) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let jobs = JobsServer::new(server.clone());
        let cluster = ClusterServer::new(server.clone());
        let runtime = Runtime::new().unwrap();
        let serving = async move {
            let incoming = TcpListenerStream::new(tokio::net::TcpListener::from_std(listener)?);
            let router = Server::builder().add_service(jobs).add_service(cluster);
            router.serve_with_incoming(incoming).await.map_err(io::Error::other)
        };
        // It ends with its runtime.
        drop(runtime.spawn(serving));
        Self { address, runtime: Some(runtime) }
    }

    fn kill(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A cluster and a connection to it.
struct Fixture {
    facts: Arc<Mutex<Facts>>,
    connection: Connection,
    servers: Vec<Serving>,
}

impl Fixture {
    async fn of(servers: usize) -> Self {
        let facts = Arc::<Mutex<Facts>>::default();
        let start = |number| Serving::start(&Fragile { number, facts: Arc::clone(&facts) });
        let servers: Vec<_> = (0..servers).map(start).collect();
        let addresses: Vec<_> = servers.iter().map(|server| server.address.as_str()).collect();
        let endpoint = Endpoint::new(&addresses.join(","), "token").unwrap();
        let connection = Connection::connect(endpoint, Duration::from_secs(30)).await.unwrap();
        Self { facts, connection, servers }
    }

    fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap()
    }
}

async fn fixture() -> Fixture {
    Fixture::of(1).await
}

fn whole_job() -> LogOptions {
    LogOptions {
        job_id: "J".to_owned(),
        attempt: 1,
        stream: v1::LogStream::Unspecified,
        begin: LogBegin::Offset(0),
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
            LogEvent::Attempt { number, .. } => told.push(format!("attempt {number}")),
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
async fn the_end_comes_once_and_in_order_over_broken_streams() {
    let fixture = fixture().await;
    let options =
        LogOptions { begin: LogBegin::Tail(20), until: LogUntil::AttemptEnd, ..whole_job() };
    let options = LogOptions { attempt: 2, ..options };
    let mut events = read_log(fixture.connection.clone(), options, PATIENCE);
    let first = events.next().await.unwrap().unwrap();
    assert_eq!(first, LogEvent::Attempt { number: 2, offset: 20, length: 40 });
    let (mut text, mut breaks) = (String::new(), 0);
    while let Some(event) = events.next().await {
        match event.unwrap() {
            LogEvent::Piece(piece) => text.push_str(std::str::from_utf8(&piece.data).unwrap()),
            LogEvent::Reconnecting { .. } => breaks += 1,
            _ => {}
        }
    }
    assert_eq!(text, &numbers(2)[20..]);
    assert!(breaks >= 2, "the streams broke {breaks} times only");
}

#[tokio::test]
async fn output_that_is_not_what_was_recorded_ends_with_an_error_instead_of_its_end() {
    let fixture = fixture().await;
    fixture.facts().damaged = true;
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
            WatchEvent::Reconnecting { .. } => fixture.facts().ended = true,
            WatchEvent::Reconnected => {}
        }
    }
    assert_eq!(last.unwrap().state(), v1::JobState::Succeeded);
    assert!(fixture.facts().watches > 1);
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
    fixture.facts().away = true;
    let patience = Patience(Duration::from_millis(200));
    let events = read_log(fixture.connection.clone(), whole_job(), patience);
    let events: Vec<_> = events.collect().await;
    assert!(matches!(events[0], Ok(LogEvent::Reconnecting { .. })), "{events:?}");
    assert!(events[1].as_ref().is_err_and(baton_client::ClientError::is_temporary), "{events:?}");
    assert_eq!(events.len(), 2);
}

#[tokio::test]
async fn an_address_where_nobody_listens_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
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
    let facts = fixture.facts();
    assert!(facts.stored == archive.0, "other bytes arrived");
    assert_eq!(furthest, archive.size());
    assert!(breaks >= 2 && facts.uploads > breaks, "{breaks} breaks, {} streams", facts.uploads);
}

#[tokio::test]
async fn an_archive_that_is_there_already_is_not_sent_again() {
    let fixture = fixture().await;
    let archive = Random(vec![7; 100]);
    fixture.facts().stored.clone_from(&archive.0);
    upload(&fixture.connection, &archive, PATIENCE, |_| ()).await.unwrap();
    assert_eq!(fixture.facts().uploads, 1);
}

#[tokio::test]
async fn a_listener_that_says_nothing_does_not_count_as_reached() {
    let mute = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = Endpoint::new(&mute.local_addr().unwrap().to_string(), "token").unwrap();
    let connected = Connection::connect(endpoint, Duration::from_millis(200)).await;
    let error = connected.err().unwrap();
    assert!(error.is_temporary());
    assert_eq!(error.to_string(), "no answer in time");
}
