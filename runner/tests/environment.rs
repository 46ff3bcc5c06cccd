//! A runner whose clock, threads, network and executor are the test's own, all on one
//! thread: the life of a job as its coordinator sees it.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "what goes wrong fails the test")]

use std::{sync::Arc, time::Duration};

use baton_client::{ClientError, Endpoint};
use baton_proto::{
    spool::{self, Kind},
    v1::{
        self, LogEnd, send_log_request::Item as Sent, session_request::Item as Says,
        session_response::Item as Told,
    },
};
use baton_runner::{
    Answers, Blocking, Clock, Config, Environment, Link, Network, Requests, Runner,
    executor::{
        AttemptDir, Execution, Executor, ExecutorError, Executors, Exit, ExitStatus, Launch,
        Progress, Recovered,
    },
};
use futures::{
    FutureExt as _, StreamExt as _,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use tempfile::TempDir;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::UnboundedReceiverStream;

/// More than enough for anything here to happen.
const PATIENCE: Duration = Duration::from_secs(600);
const BEAT: Duration = Duration::from_secs(10);
/// The runner counts on five sixths of it.
const TTL: Duration = Duration::from_secs(18);

/// One of the runner's calls, for the test to answer.
enum Call {
    Session(Requests<v1::SessionRequest>, oneshot::Sender<Answers<v1::SessionResponse>>),
    SendLog(Requests<v1::SendLogRequest>, oneshot::Sender<Answers<v1::SendLogResponse>>),
    FetchSource(v1::FetchSourceRequest, oneshot::Sender<Answers<v1::FileChunk>>),
}

/// Everything that a runner has to do with, but its files.
#[derive(Clone)]
struct World {
    begun: Instant,
    calls: mpsc::UnboundedSender<Call>,
    /// The processes that were started.
    started: watch::Sender<usize>,
}

impl Clock for World {
    fn wall(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).unwrap()
    }

    fn boottime(&self) -> Duration {
        Duration::from_secs(1) + self.begun.elapsed()
    }
}

impl Blocking for World {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}

impl Network for World {
    fn connect(
        &self,
        _: Endpoint,
        _: Duration,
    ) -> BoxFuture<'_, Result<Arc<dyn Link>, ClientError>> {
        async { Ok(Arc::new(self.clone()) as Arc<dyn Link>) }.boxed()
    }
}

impl World {
    fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(oneshot::Sender<Answers<T>>) -> Call,
    ) -> BoxFuture<'_, Result<Answers<T>, ClientError>> {
        let (answer, answers) = oneshot::channel();
        // The test may be over.
        let _ = self.calls.send(call(answer));
        async { answers.await.map_err(|_| ClientError::Unreachable("gone".to_owned())) }.boxed()
    }
}

impl Link for World {
    fn address(&self) -> &str {
        "coordinator:1"
    }

    fn session(
        &self,
        requests: Requests<v1::SessionRequest>,
    ) -> BoxFuture<'_, Result<Answers<v1::SessionResponse>, ClientError>> {
        self.call(|answer| Call::Session(requests, answer))
    }

    fn send_log(
        &self,
        requests: Requests<v1::SendLogRequest>,
    ) -> BoxFuture<'_, Result<Answers<v1::SendLogResponse>, ClientError>> {
        self.call(|answer| Call::SendLog(requests, answer))
    }

    fn fetch_source(
        &self,
        request: v1::FetchSourceRequest,
    ) -> BoxFuture<'_, Result<Answers<v1::FileChunk>, ClientError>> {
        self.call(|answer| Call::FetchSource(request, answer))
    }

    fn find_missing(
        &self,
        _: v1::FindMissingContentRequest,
    ) -> BoxFuture<'_, Result<v1::FindMissingResponse, ClientError>> {
        panic!("no job here leaves anything")
    }

    fn send_content(
        &self,
        _: Requests<v1::SendContentRequest>,
        _: bool,
    ) -> BoxFuture<'_, Result<Answers<v1::UploadResponse>, ClientError>> {
        panic!("no job here leaves anything")
    }
}

/// Each process says `hello` and is over.
impl Executor for World {
    fn start<'a>(
        &'a self,
        dir: &'a AttemptDir,
        _: &'a Launch,
    ) -> BoxFuture<'a, Result<Execution, ExecutorError>> {
        std::fs::write(dir.spool(), output()).unwrap();
        self.started.send_modify(|count| *count += 1);
        let exit = Exit {
            status: ExitStatus::Exited(0),
            stopped: None,
            tree_gone: true,
            killed: 0,
            out_of_memory: false,
            limits: std::collections::BTreeMap::new(),
            finished_at: 2,
        };
        let execution = Execution {
            started_at: 1,
            spool_length: watch::channel(output().len() as u64).1,
            progress: watch::channel(Progress::Done(exit)).1,
            control: mpsc::channel(16).0,
        };
        std::future::ready(Ok(execution)).boxed()
    }

    fn recover<'a>(&'a self, _: &'a AttemptDir) -> BoxFuture<'a, Result<Recovered, ExecutorError>> {
        std::future::ready(Ok(Recovered::NotStarted)).boxed()
    }
}

fn output() -> Vec<u8> {
    let mut bytes = Vec::new();
    spool::push_frame(&mut bytes, Kind::Stdout, 1, b"hello");
    spool::push_end(&mut bytes, 2, &LogEnd { stdout_length: 5, ..LogEnd::default() });
    bytes
}

/// The coordinator's side of all calls.
struct Coordinator {
    runner: Runner,
    folder: TempDir,
    calls: mpsc::UnboundedReceiver<Call>,
    started: watch::Receiver<usize>,
}

impl Coordinator {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (call, calls) = mpsc::unbounded_channel();
        let (start, started) = watch::channel(0);
        let world = Arc::new(World { begun: Instant::now(), calls: call, started: start });
        let environment =
            Environment { clock: world.clone(), blocking: world.clone(), network: world.clone() };
        let endpoint = Endpoint::new("coordinator:1", "token").unwrap();
        let config = Config::new(folder.path().to_owned(), endpoint, "runner".to_owned());
        let runner =
            Runner::start_with(config, environment, Executors::local(world)).await.unwrap();
        Self { runner, folder, calls, started }
    }

    async fn call(&mut self) -> Call {
        timeout(PATIENCE, self.calls.recv()).await.expect("the runner calls").unwrap()
    }

    /// Welcomes the runner; what it says from then on, and what it is told.
    async fn welcome(&mut self, beat: Duration, more: BoxStream<'static, Told>) -> Session {
        let Call::Session(mut says, answer) = self.call().await else { panic!("no session") };
        let hello = says.next().await.unwrap().item;
        assert!(matches!(&hello, Some(Says::Hello(hello)) if hello.name == "runner"), "{hello:?}");
        let welcome = Told::Welcome(v1::Welcome {
            heartbeat_interval: Some(beat.try_into().unwrap()),
            lease_ttl: Some(TTL.try_into().unwrap()),
        });
        let (tell, told) = mpsc::unbounded_channel();
        let told = stream::select(UnboundedReceiverStream::new(told), more);
        let told = stream::once(async { welcome }).chain(told);
        answer.send(told.map(|item| Ok(response(item))).boxed()).ok().unwrap();
        Session { says, tell }
    }

    /// Takes the whole output of an attempt.
    async fn take_output(&mut self) {
        let Call::SendLog(mut sent, answer) = self.call().await else { panic!("no output") };
        let (tell, told) = mpsc::unbounded_channel();
        answer.send(UnboundedReceiverStream::new(told).map(Ok).boxed()).ok().unwrap();
        let mut taken = Vec::new();
        while let Some(request) = sent.next().await {
            let sealed = match request.item.unwrap() {
                Sent::Open(open) => {
                    assert_eq!((open.job_id.as_str(), open.lease), ("job", 7));
                    false
                }
                Sent::Chunk(chunk) => {
                    assert_eq!(chunk.offset, taken.len() as u64);
                    taken.extend_from_slice(&chunk.data);
                    false
                }
                Sent::Seal(seal) => {
                    assert_eq!(seal.blake3, blake3::hash(&taken).to_hex().to_string());
                    true
                }
            };
            // It may have heard enough.
            let _ = tell.send(v1::SendLogResponse { durable: taken.len() as u64, sealed });
        }
        assert_eq!(taken, output());
    }

    async fn stop(self) {
        self.runner.stop().await;
        assert_eq!(self.folder.path().join("attempts").read_dir().unwrap().count(), 0);
    }
}

/// The coordinator's side of a session.
struct Session {
    says: Requests<v1::SessionRequest>,
    tell: mpsc::UnboundedSender<Told>,
}

impl Session {
    async fn next(&mut self) -> Says {
        let next = timeout(PATIENCE, self.says.next()).await.expect("the runner says something");
        next.unwrap().item.unwrap()
    }

    fn tell(&self, item: Told) {
        self.tell.send(item).unwrap();
    }

    async fn heartbeat(&mut self) -> v1::Heartbeat {
        match self.next().await {
            Says::Heartbeat(heartbeat) => heartbeat,
            other => panic!("{other:?}"),
        }
    }

    async fn started(&mut self) {
        let started = self.next().await;
        assert!(matches!(&started, Says::Started(started) if started.lease == 7), "{started:?}");
    }

    /// Takes the outcome, and hears that nothing is held any more.
    async fn settle(&mut self) {
        let Says::Finished(finished) = self.next().await else { panic!("not finished") };
        assert_eq!(finished.outcome.unwrap().state(), v1::JobState::Succeeded);
        assert_eq!(finished.log.unwrap().file_length, output().len() as u64);
        self.tell(Told::Settled(v1::Settled { job_id: "job".to_owned(), lease: 7 }));
        assert_eq!(self.heartbeat().await.held, []);
    }
}

fn response(item: Told) -> v1::SessionResponse {
    v1::SessionResponse { item: Some(item) }
}

fn assign(source: Option<v1::Source>) -> Told {
    let spec = v1::JobSpec { command: vec!["true".to_owned()], source, ..v1::JobSpec::default() };
    let spec = Some(spec);
    let (job_id, attempt) = ("job".to_owned(), 1);
    Told::Assign(v1::Assign { job_id, lease: 7, attempt, spec, ..v1::Assign::default() })
}

/// An archive with one file, and the source that names it.
fn archive() -> (Vec<u8>, v1::Source) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o644);
    header.set_size(4);
    tar.append_data(&mut header, "file", &b"text"[..]).unwrap();
    let bytes = zstd::encode_all(tar.into_inner().unwrap().as_slice(), 0).unwrap();
    let digest = blake3::hash(&bytes).to_hex().to_string();
    let archive = v1::Archive { digest, size: bytes.len() as u64 };
    (bytes, v1::Source { kind: Some(v1::source::Kind::Archive(archive)) })
}

#[tokio::test(start_paused = true)]
async fn a_job_is_started_sent_finished_and_forgotten() {
    let mut coordinator = Coordinator::start().await;
    let mut session = coordinator.welcome(BEAT, stream::pending().boxed()).await;
    assert_eq!(session.heartbeat().await.held, []);
    session.tell(assign(None));
    session.started().await;
    coordinator.take_output().await;
    session.settle().await;
    assert_eq!(*coordinator.started.borrow(), 1);
    coordinator.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_job_whose_lease_ran_out_while_its_code_came_waits_for_a_renewal() {
    let (archive, source) = archive();
    let mut coordinator = Coordinator::start().await;
    let mut session = coordinator.welcome(BEAT, stream::pending().boxed()).await;
    session.heartbeat().await;
    session.tell(assign(Some(source)));
    let halves = archive.split_at(archive.len() / 2);
    for (offset, half) in [(0, halves.0), (halves.0.len(), halves.1)] {
        let Call::FetchSource(request, answer) = coordinator.call().await else {
            panic!("nothing fetched");
        };
        assert_eq!((request.lease, request.offset), (7, offset as u64));
        sleep(TTL / 2).await;
        let chunk = v1::FileChunk { offset: offset as u64, data: half.to_vec().into() };
        answer.send(stream::iter([Ok(chunk)]).boxed()).ok().unwrap();
    }
    sleep(Duration::from_millis(1)).await;
    let work = coordinator.folder.path().join("attempts/job-7/work");
    assert_eq!(std::fs::read(work.join("file")).unwrap(), b"text");
    assert_eq!(*coordinator.started.borrow(), 0);
    // The lease was not known of yet when the first beats went out.
    let heartbeat = loop {
        let heartbeat = session.heartbeat().await;
        assert_eq!(*coordinator.started.borrow(), 0);
        if heartbeat.sequence == 3 {
            break heartbeat;
        }
    };
    assert_eq!(heartbeat.held.len(), 1);
    session
        .tell(Told::HeartbeatAck(v1::HeartbeatAck { sequence: heartbeat.sequence, spent: false }));
    session.started().await;
    coordinator.take_output().await;
    session.settle().await;
    coordinator.stop().await;
}

#[tokio::test]
async fn heartbeats_go_out_however_much_the_coordinator_says() {
    const LIMIT: Duration = Duration::from_secs(30);
    let mut coordinator = Coordinator::start().await;
    let begun = Instant::now();
    let flood =
        stream::repeat(Told::HeartbeatAck(v1::HeartbeatAck { sequence: u64::MAX, spent: false }))
            .take_while(move |_| std::future::ready(begun.elapsed() < LIMIT));
    let mut session = coordinator.welcome(Duration::from_millis(100), flood.boxed()).await;
    for sequence in 1..4 {
        assert_eq!(session.heartbeat().await.sequence, sequence);
    }
    assert!(begun.elapsed() < LIMIT);
    coordinator.runner.stop().await;
}
