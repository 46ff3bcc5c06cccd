//! Sessions over a real Raft node: who speaks for a runner, and when.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use baton_proto::{
    error::{ApiError, Reason},
    v1::{self, session_request, session_response},
};
use baton_state::{
    Command, Connection, Index, Job, JobId, Lease, Phase, Reply, RunnerId, Timestamp,
    command::{MarkUnreachable, Submit},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{dispatcher::Dispatcher, *};
use crate::{convert, files::FilesOptions, raft};

/// More than enough for anything here to happen.
const PATIENCE: Duration = Duration::from_secs(60);

/// Holds the node's thread up when a runner comes online.
#[derive(Default)]
struct Gate(Mutex<Option<(oneshot::Sender<()>, std::sync::mpsc::Receiver<()>)>>);

impl Gate {
    /// Closes it for one time: what tells that the thread is there, and what lets it go on.
    fn close(&self) -> (oneshot::Receiver<()>, std::sync::mpsc::Sender<()>) {
        let ((reach, reached), (release, released)) =
            (oneshot::channel(), std::sync::mpsc::channel());
        *self.0.lock().unwrap() = Some((reach, released));
        (reached, release)
    }
}

impl Observer for Gate {
    fn applied(&self, _through: Index, _state: &baton_state::State, events: &[Event]) {
        if events.iter().any(|event| matches!(event.kind, EventKind::RunnerOnline { .. }))
            && let Some((reach, released)) = self.0.lock().unwrap().take()
        {
            reach.send(()).unwrap();
            released.recv_timeout(PATIENCE).unwrap();
        }
    }
}

struct Node {
    dispatch: Dispatch,
    gate: Arc<Gate>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _folder: tempfile::TempDir,
}

impl Node {
    /// A node whose dispatcher's loop does not run.
    fn still() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gate = Arc::new(Gate::default());
        let observer = DispatchObserver::new(Timing::default(), Environment::system());
        let raft = raft::start(raft::Options {
            node_id: 1,
            dir: folder.path().join("raft"),
            snapshot_every: 1_000_000,
            log_file_bytes: 1024 * 1024,
            history: None,
            observers: vec![Arc::new(observer.clone()), gate.clone()],
            safe_elsewhere: Arc::new(|_| Ok(())),
            environment: Environment::system(),
        });
        let files = Files::open(folder.path().join("files"), FilesOptions::default()).unwrap();
        let dispatch = Dispatch { shared: observer.0, raft: raft.unwrap(), files };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Self { dispatch, gate, tasks, stop, _folder: folder }
    }

    /// A node that also gives jobs to runners.
    fn running() -> Self {
        let node = Self::still();
        node.tasks.spawn(dispatcher::run(node.dispatch.clone(), node.stop.clone()));
        node
    }

    /// Opens a stream and says hello.
    fn connect(&self, place: &str, held: Vec<v1::HeldLease>) -> Stream {
        self.connect_as("r", place, held)
    }

    fn connect_as(&self, id: &str, place: &str, held: Vec<v1::HeldLease>) -> Stream {
        let (requests, inbound) = mpsc::unbounded_channel();
        let (outbound, answers) = mpsc::unbounded_channel();
        let serving = self.dispatch.clone().serve_session(
            UnboundedReceiverStream::new(inbound),
            outbound,
            self.stop.clone(),
        );
        let stream = Stream { requests, answers, served: self.tasks.spawn(serving) };
        stream.send(session_request::Item::Hello(v1::Hello {
            runner_id: id.to_owned(),
            name: "runner".to_owned(),
            slots: 1,
            boot_id: "boot".to_owned(),
            place: place.to_owned(),
            held,
            ..Default::default()
        }));
        stream
    }

    /// Opens a session.
    async fn session(&self, place: &str, held: Vec<v1::HeldLease>) -> Stream {
        let mut stream = self.connect(place, held);
        stream.until(|item| matches!(item, session_response::Item::Welcome(_))).await;
        stream
    }

    async fn submit(&self) -> JobId {
        let at = Timestamp(1);
        let spec = v1::JobSpec { command: vec!["true".to_owned()], ..Default::default() };
        let command = Command::Submit(Submit {
            id: self.dispatch.shared.environment.job_id(at),
            spec: Arc::new(convert::spec_from_proto(spec).unwrap()),
            at,
            by: "ann".to_owned(),
            retry_of: None,
            request: None,
            history_seen: Index::MAX,
        });
        match self.dispatch.raft.propose(command).await {
            Ok(Reply::Job(job)) => job,
            other => panic!("not submitted: {other:?}"),
        }
    }

    fn job(&self, job: JobId) -> Job {
        self.dispatch.raft.state().job(job).unwrap().clone()
    }

    fn is_online(&self) -> bool {
        let state = self.dispatch.raft.state();
        state.runner(&runner()).is_some_and(|runner| runner.connection == Connection::Online)
    }

    async fn mark_unreachable(&self) {
        let command = MarkUnreachable { runner: runner(), at: Timestamp(2) };
        self.dispatch.raft.propose(Command::MarkUnreachable(command)).await.unwrap();
    }
}

/// A runner's end of a session.
struct Stream {
    requests: mpsc::UnboundedSender<Result<v1::SessionRequest, ()>>,
    answers: mpsc::UnboundedReceiver<Result<v1::SessionResponse, ApiError>>,
    served: JoinHandle<Result<(), ApiError>>,
}

impl Stream {
    fn send(&self, item: session_request::Item) {
        // Nobody listens to a session that has ended.
        let _ = self.requests.send(Ok(v1::SessionRequest { item: Some(item) }));
    }

    fn beat(&self, sequence: u64, held: Vec<v1::HeldLease>) {
        self.send(session_request::Item::Heartbeat(v1::Heartbeat { sequence, held }));
    }

    /// The next message that `wanted` takes.
    async fn until(
        &mut self,
        wanted: impl Fn(&session_response::Item) -> bool,
    ) -> session_response::Item {
        let found = timeout(PATIENCE, async {
            loop {
                let item = self.answers.recv().await.unwrap().unwrap().item.unwrap();
                if wanted(&item) {
                    return item;
                }
            }
        });
        found.await.expect("the message comes")
    }

    async fn acknowledged(&mut self, sequence: u64) {
        let ack = session_response::Item::HeartbeatAck(v1::HeartbeatAck { sequence });
        self.until(|item| *item == ack).await;
    }

    /// Takes the job that is assigned, and says that it runs.
    async fn start(&mut self) -> v1::HeldLease {
        let assigned = self.until(|item| matches!(item, session_response::Item::Assign(_))).await;
        let session_response::Item::Assign(assign) = assigned else { panic!("not an assignment") };
        let (job_id, lease) = (assign.job_id, assign.lease);
        let started = v1::Started { job_id: job_id.clone(), lease, time: None };
        self.send(session_request::Item::Started(started));
        v1::HeldLease { job_id, lease }
    }

    /// How the session ends.
    async fn ended(self) -> Option<Reason> {
        let served = timeout(PATIENCE, self.served).await.expect("the session ends");
        served.unwrap().err().map(|error| error.reason)
    }
}

fn runner() -> RunnerId {
    RunnerId("r".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_late_heartbeat_of_a_replaced_session_changes_nothing() {
    let node = Node::running();
    let job = node.submit().await;
    let mut first = node.session("here", vec![]).await;
    let held = first.start().await;
    first.beat(1, vec![held.clone()]);
    first.acknowledged(1).await;

    let mut second = node.session("here", vec![held.clone()]).await;
    // What the first process said before it was killed, and arrives only now.
    first.beat(2, vec![]);
    assert_eq!(first.ended().await, Some(Reason::SessionReplaced));
    second.beat(1, vec![held.clone()]);
    second.acknowledged(1).await;
    let job = node.job(job);
    assert_eq!((job.phase.clone(), job.lease()), (Phase::Running, Some(Lease(held.lease))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_heartbeat_that_is_being_taken_while_its_session_is_replaced_changes_nothing() {
    let node = Node::running();
    let job = node.submit().await;
    let mut first = node.session("here", vec![]).await;
    let held = first.start().await;
    first.beat(1, vec![held.clone()]);
    first.acknowledged(1).await;

    // The heartbeat has to register the runner again, and that takes its time.
    node.mark_unreachable().await;
    let (reached, release) = node.gate.close();
    first.beat(2, vec![]);
    timeout(PATIENCE, reached).await.expect("the gate is reached").unwrap();
    let (outbound, _answers) = mpsc::unbounded_channel();
    node.dispatch.shared.sessions.open(&runner(), outbound, Timestamp(3), Instant::now());
    release.send(()).unwrap();

    assert_eq!(first.ended().await, Some(Reason::SessionReplaced));
    assert_eq!(node.job(job).lease(), Some(Lease(held.lease)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_comes_back_while_it_is_marked_unreachable_is_online() {
    for round in 0..200 {
        let node = Node::still();
        drop(node.session("here", vec![]).await);
        timeout(PATIENCE, async {
            while node.dispatch.shared.sessions.contains(&runner()) {
                tokio::task::yield_now().await;
            }
        })
        .await
        .expect("the session closes");
        let mut dispatcher = Dispatcher::new(node.dispatch.clone());
        let long_ago = Instant::now();
        let now = long_ago + Timing::default().unreachable_after;
        dispatcher.mark_unreachable(long_ago).await;
        let (session, ()) =
            tokio::join!(node.session("here", vec![]), dispatcher.mark_unreachable(now));
        let mut session = session;
        // It has been served once a word to it is answered; a heartbeat would hide the fault.
        session.send(session_request::Item::Started(v1::Started {
            job_id: JobId::MAX.to_string(),
            lease: 1,
            time: None,
        }));
        session.until(|item| matches!(item, session_response::Item::Stop(_))).await;
        assert!(node.is_online(), "round {round}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_from_another_place_is_refused_and_the_first_goes_on() {
    let node = Node::still();
    let mut first = node.session("here", vec![]).await;
    let second = node.connect("there", vec![]);
    assert_eq!(second.ended().await, Some(Reason::RunnerIdNotYetFree));
    first.beat(1, vec![]);
    first.acknowledged(1).await;
    let second = node.connect("there", vec![]);
    assert_eq!(second.ended().await, Some(Reason::RunnerIdInUse));
    first.beat(2, vec![]);
    first.acknowledged(2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_does_not_say_where_it_is_is_refused() {
    let node = Node::still();
    assert_eq!(node.connect("", vec![]).ended().await, Some(Reason::InvalidArgument));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_about_another_runners_lease_changes_nothing() {
    let node = Node::running();
    let job = node.submit().await;
    let mut owner = node.session("here", vec![]).await;
    let held = owner.start().await;
    owner.beat(1, vec![held.clone()]);
    owner.acknowledged(1).await;

    let mut stranger = node.connect_as("stranger", "there", vec![]);
    let outcome = Some(v1::Outcome { state: v1::JobState::Lost.into(), ..Default::default() });
    stranger.send(session_request::Item::Finished(v1::Finished {
        job_id: held.job_id.clone(),
        lease: held.lease,
        outcome,
        ..Default::default()
    }));
    stranger.until(|item| matches!(item, session_response::Item::Stop(_))).await;
    assert_eq!(node.job(job).lease(), Some(Lease(held.lease)));
}
