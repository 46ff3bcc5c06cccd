//! Sessions over a real Raft node: who speaks for a runner, and when.

mod leases;
mod terms;

use std::{
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use baton_proto::{
    error::{ApiError, Reason},
    v1::{self, session_request, session_response},
};
use baton_state::{
    Command, Connection, Index, Job, JobId, Lease, Level, Member, NodeId, Phase, Reply,
    RunnerFacts, RunnerId, Timestamp,
    command::{FoundCluster, Grant, MarkUnreachable, PutMember, Submit},
};
use futures::poll;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::timeout,
};
use tokio_stream::wrappers::UnboundedReceiverStream;

use super::{dispatcher::Dispatcher, *};
use crate::{
    contents::Contents,
    convert,
    files::{Files, FilesOptions},
    leadership::Leader,
    raft,
    replication::Replication,
    trees::Trees,
    uploads::Uploads,
};

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
        if !events.iter().any(|event| matches!(event.kind, EventKind::RunnerOnline { .. })) {
            return;
        }
        // Not under the lock, so that it can be closed again meanwhile.
        let closed = self.0.lock().unwrap().take();
        if let Some((reach, released)) = closed {
            reach.send(()).unwrap();
            released.recv_timeout(PATIENCE).unwrap();
        }
    }
}

struct Node {
    dispatch: Dispatch,
    leader: watch::Sender<Leader>,
    gate: Arc<Gate>,
    tasks: TaskTracker,
    stop: CancellationToken,
    connects: AtomicU64,
    _folder: tempfile::TempDir,
}

impl Node {
    /// A node that leads and whose dispatcher's loop does not run.
    fn still() -> Self {
        Self::with(Timing::default())
    }

    fn with(timing: Timing) -> Self {
        let node = Self::new(timing);
        node.dispatch.shared.begin_term();
        node
    }

    /// A node that believes what it is told about who leads.
    fn new(timing: Timing) -> Self {
        Self::founded(timing, raft::testing::founding())
    }

    fn founded(timing: Timing, founding: Command) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let gate = Arc::new(Gate::default());
        let observer = DispatchObserver::new(timing, Environment::system());
        let raft = raft::testing::start(raft::Options {
            observers: vec![Arc::new(observer.clone()), gate.clone()],
            beginning: raft::Beginning::Found(Box::new(founding)),
            ..raft::testing::options(&folder.path().join("raft"), 1_000_000)
        });
        let files = Files::open(folder.path().join("files"), FilesOptions::default()).unwrap();
        let (leader, told) = watch::channel(Leader::Nobody);
        let leadership = Leadership::told_by(told);
        let contents = Contents {
            replication: Replication::alone(files.clone()),
            files,
            uploads: Uploads::default(),
            trees: Trees::default(),
        };
        let dispatch = Dispatch { shared: observer.0, raft: raft.unwrap(), contents, leadership };
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        Self { dispatch, leader, gate, tasks, stop, connects: AtomicU64::new(1), _folder: folder }
    }

    /// A node that also gives jobs to runners.
    fn running() -> Self {
        let node = Self::new(Timing::default());
        node.lead(1);
        node.tasks.spawn(dispatcher::run(node.dispatch.clone(), node.stop.clone()));
        node
    }

    /// It leads from now on.
    fn lead(&self, term: u64) {
        self.leader.send_replace(Leader::Here { term });
    }

    /// Opens a stream and says hello.
    fn connect(&self, place: &str, held: Vec<v1::HeldLease>) -> Stream {
        self.connect_as("r", place, held)
    }

    fn connect_as(&self, id: &str, place: &str, held: Vec<v1::HeldLease>) -> Stream {
        self.say(v1::Hello { runner_id: id.to_owned(), held, ..self.hello(place) })
    }

    /// The hello of a runner that connects now.
    fn hello(&self, place: &str) -> v1::Hello {
        v1::Hello {
            runner_id: "r".to_owned(),
            name: "runner".to_owned(),
            slots: 1,
            boot_id: "boot".to_owned(),
            place: place.to_owned(),
            connect: self.connects.fetch_add(1, Ordering::Relaxed),
            ..Default::default()
        }
    }

    fn say(&self, hello: v1::Hello) -> Stream {
        let (requests, inbound) = mpsc::unbounded_channel();
        let (outbound, answers) = mpsc::unbounded_channel();
        let serving = self.dispatch.clone().serve_session(
            UnboundedReceiverStream::new(inbound),
            outbound,
            self.stop.clone(),
        );
        let stream = Stream { requests, answers, served: self.tasks.spawn(serving) };
        stream.send(session_request::Item::Hello(hello));
        stream
    }

    /// Opens a session.
    async fn session(&self, place: &str, held: Vec<v1::HeldLease>) -> Stream {
        let mut stream = self.connect(place, held);
        stream.until(|item| matches!(item, session_response::Item::Welcome(_))).await;
        stream
    }

    async fn submit(&self) -> JobId {
        self.submit_spec(v1::JobSpec::default()).await
    }

    async fn submit_spec(&self, spec: v1::JobSpec) -> JobId {
        let at = Timestamp(1);
        let spec = v1::JobSpec { command: vec!["true".to_owned()], ..spec };
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

    /// Gives a job to the runner, as the dispatcher would.
    async fn grant(&self, job: JobId) -> v1::HeldLease {
        let grant = Grant { job, runner: runner(), at: Timestamp(2) };
        match self.dispatch.raft.propose(Command::Grant(grant)).await {
            Ok(Reply::Lease(lease)) => v1::HeldLease { job_id: job.to_string(), lease: lease.0 },
            other => panic!("not granted: {other:?}"),
        }
    }

    /// Has the runner take its job and say that it runs, until that is recorded.
    async fn run(&self, job: JobId, runner: &mut Stream) -> v1::HeldLease {
        let held = runner.start().await;
        self.until("the job runs", |node| node.job(job).phase == Phase::Running).await;
        held
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let reached = timeout(PATIENCE, async {
            while !holds(self) {
                tokio::task::yield_now().await;
            }
        });
        reached.await.expect(what);
    }

    fn job(&self, job: JobId) -> Job {
        self.dispatch.raft.state().job(job).unwrap().clone()
    }

    fn has_session(&self) -> bool {
        self.dispatch.shared.sessions.contains(&runner())
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
        self.send(session_request::Item::Heartbeat(v1::Heartbeat {
            sequence,
            held,
            leaving: false,
        }));
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
        let ack = session_response::Item::HeartbeatAck(v1::HeartbeatAck { sequence, spent: false });
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

    /// Returns when the session is served: when a word to it is answered. A
    /// heartbeat would hide what has to hold without one.
    async fn served(&mut self) {
        self.send(session_request::Item::Started(v1::Started {
            job_id: JobId::MAX.to_string(),
            lease: 1,
            time: None,
        }));
        self.until(|item| matches!(item, session_response::Item::Stop(_))).await;
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
    let held = node.run(job, &mut first).await;
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
    let held = node.run(job, &mut first).await;
    first.beat(1, vec![held.clone()]);
    first.acknowledged(1).await;

    // The heartbeat has to register the runner again, and that takes its time.
    node.mark_unreachable().await;
    let (reached, release) = node.gate.close();
    first.beat(2, vec![]);
    timeout(PATIENCE, reached).await.expect("the gate is reached").unwrap();
    let (outbound, _answers) = mpsc::unbounded_channel();
    let welcome = messages::welcome(&node.dispatch.shared.timing);
    node.dispatch.shared.sessions.open(&runner(), outbound, welcome, Instant::now(), || true);
    release.send(()).unwrap();

    assert_eq!(first.ended().await, Some(Reason::SessionReplaced));
    assert_eq!(node.job(job).lease(), Some(Lease(held.lease)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_comes_back_while_it_is_marked_unreachable_is_online() {
    for round in 0..200 {
        let node = Node::still();
        drop(node.session("here", vec![]).await);
        node.until("the session closes", |node| !node.has_session()).await;
        let mut dispatcher = Dispatcher::new(node.dispatch.clone());
        let long_ago = Instant::now();
        let now = long_ago + Timing::default().unreachable_after;
        dispatcher.mark_unreachable(long_ago).await;
        let (session, ()) =
            tokio::join!(node.session("here", vec![]), dispatcher.mark_unreachable(now));
        let mut session = session;
        session.served().await;
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
async fn a_runner_that_does_not_say_which_of_its_connects_it_is_is_refused() {
    let node = Node::still();
    let hello = v1::Hello { connect: 0, ..node.hello("here") };
    assert_eq!(node.say(hello).ended().await, Some(Reason::InvalidArgument));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_runner_understands_is_recorded_as_soon_as_every_coordinator_knows_of_it() {
    let (id, at) = (NodeId(1), Timestamp(1));
    let newer = raft::testing::member(1);
    let member = Member { level: Level(2), ..newer.clone() };
    let cluster_id = "cluster".to_owned();
    let founding = Command::FoundCluster(FoundCluster { cluster_id, node: id, member, at });
    let node = Node::founded(Timing::default(), founding);
    node.dispatch.shared.begin_term();
    let level = |node: &Node| node.dispatch.raft.state().runners()[&runner()].facts.level;

    let hello = v1::Hello { level: baton_proto::JOB_LEVEL, ..node.hello("here") };
    let mut session = node.say(hello);
    session.beat(1, vec![]);
    session.acknowledged(1).await;
    assert_eq!(level(&node), RunnerFacts::UNSAID);

    let upgrade = Command::PutMember(PutMember { node: id, member: newer, at });
    node.dispatch.raft.propose(upgrade).await.unwrap();
    session.beat(2, vec![]);
    session.acknowledged(2).await;
    assert_eq!(level(&node), Level::NEWEST);

    // An older version of the runner, in place of it.
    let mut older = node.session("here", vec![]).await;
    older.beat(1, vec![]);
    older.acknowledged(1).await;
    assert_eq!(level(&node), RunnerFacts::UNSAID);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_message_of_a_session_is_the_welcome() {
    let node = Node::still();
    let done = Arc::new(AtomicBool::new(false));
    let sender = {
        let (done, dispatch) = (Arc::clone(&done), node.dispatch.clone());
        // Whatever is sent to the runner because of something that happens just then.
        std::thread::Builder::new().name("sender".to_owned()).spawn(move || {
            while !done.load(Ordering::Relaxed) {
                let stop = messages::stop(JobId::MAX, Lease(1), v1::StopReason::Cancelled);
                dispatch.shared.sessions.send(&runner(), stop);
            }
        })
    };
    for round in 0..50 {
        let mut stream = node.connect("here", vec![]);
        let first = timeout(PATIENCE, stream.answers.recv()).await.unwrap().unwrap().unwrap();
        let is_welcome = matches!(first.item, Some(session_response::Item::Welcome(_)));
        assert!(is_welcome, "round {round}: {first:?}");
        drop(stream);
        node.until("the session closes", |node| !node.has_session()).await;
    }
    done.store(true, Ordering::Relaxed);
    sender.unwrap().join().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_that_fails_while_it_opens_is_closed() {
    let node = Node::still();
    let (reached, release) = node.gate.close();
    let _other = node.connect_as("other", "there", vec![]);
    timeout(PATIENCE, reached).await.expect("the gate is reached").unwrap();

    // Comes online and is marked as unreachable in one batch.
    let (reached, release_second) = node.gate.close();
    let (requests, inbound) = mpsc::unbounded_channel();
    let (outbound, _answers) = mpsc::unbounded_channel();
    let hello = session_request::Item::Hello(node.hello("here"));
    requests.send(Ok::<_, ()>(v1::SessionRequest { item: Some(hello) })).unwrap();
    let inbound = UnboundedReceiverStream::new(inbound);
    let dispatch = node.dispatch.clone();
    let mut serving = pin!(dispatch.serve_session(inbound, outbound, node.stop.clone()));
    assert!(poll!(serving.as_mut()).is_pending());
    let mut mark = pin!(node.mark_unreachable());
    assert!(poll!(mark.as_mut()).is_pending());
    release.send(()).unwrap();
    timeout(PATIENCE, reached).await.expect("the gate is reached").unwrap();
    let mut stopped = pin!(node.dispatch.raft.stop());
    assert!(poll!(stopped.as_mut()).is_pending());
    release_second.send(()).unwrap();

    let served = timeout(PATIENCE, serving).await.expect("the session ends");
    assert!(served.is_err(), "it cannot be registered again");
    assert!(!node.has_session());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_runner_was_heard_of_is_known_also_without_a_session() {
    let node = Node::still();
    assert_eq!(node.dispatch.last_heard(&runner()), None);
    let mut session = node.session("here", vec![]).await;
    session.beat(1, vec![]);
    session.acknowledged(1).await;
    let heard = node.dispatch.last_heard(&runner());
    assert!(heard.is_some());
    drop(session);
    node.until("the session closes", |node| !node.has_session()).await;
    assert_eq!(node.dispatch.last_heard(&runner()), heard);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_about_another_runners_lease_changes_nothing() {
    let node = Node::running();
    let job = node.submit().await;
    let mut owner = node.session("here", vec![]).await;
    let held = node.run(job, &mut owner).await;
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
