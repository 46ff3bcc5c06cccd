//! Members for the tests. Asserts nothing about them.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use baton_state::{
    Command, Index, Level, Member, NodeId, State, Timestamp,
    command::{FoundCluster, PutMember, RemoveMember},
};
use raft::eraftpb::Message;
use tempfile::TempDir;
use tokio::{
    io::AsyncReadExt as _,
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    auth::Authenticator,
    disk::DiskGuard,
    environment::Environment,
    files::{Files, FilesOptions},
    history::History,
    peers::{Directory, Network, Outgoing, PeerService, This, node::Node, serve},
    raft::{Observer as _, ProposeError, Status, Transport as _},
    reach::Reach,
};

static NEXT_PROCESS: AtomicU64 = AtomicU64::new(1);

/// More than enough for anything here to happen.
const PATIENCE: Duration = Duration::from_secs(60);

const TOKEN: &str = "a token of the cluster";

pub(super) const CLUSTER: &str = "cluster";

/// Waits for something that must happen.
pub(super) async fn soon<T>(what: &str, happens: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(PATIENCE, happens).await;
    waited.unwrap_or_else(|_| panic!("{what} does not happen"))
}

/// A node that records what it is given.
#[derive(Clone, Default)]
pub(super) struct Recorder(Arc<Recorded>);

#[derive(Default)]
struct Recorded {
    stepped: watch::Sender<Vec<Message>>,
    unreachable: watch::Sender<Vec<NodeId>>,
    status: Mutex<Status>,
    kept: Mutex<BTreeMap<NodeId, Index>>,
    /// Whoever has this lets no message in.
    gate: tokio::sync::Mutex<()>,
}

impl Node for Recorder {
    async fn step(&self, messages: Vec<Message>) -> Result<(), ProposeError> {
        let _gate = self.0.gate.lock().await;
        self.0.stepped.send_modify(|stepped| stepped.extend(messages));
        Ok(())
    }

    async fn kept(&self, node: NodeId) -> Result<Index, ProposeError> {
        Ok(self.0.kept.lock().unwrap().get(&node).copied().unwrap_or_default())
    }

    fn unreachable(&self, node: NodeId) {
        self.0.unreachable.send_modify(|unreachable| unreachable.push(node));
    }

    fn status(&self) -> Status {
        self.0.status.lock().unwrap().clone()
    }
}

impl Recorder {
    /// Lets no message in until the guard is dropped.
    pub(super) async fn stall(&self) -> impl Drop {
        self.0.gate.lock().await
    }

    pub(super) fn stands(&self, status: Status) {
        *self.0.status.lock().unwrap() = status;
    }

    /// A member is known to keep the entries up to this one.
    pub(super) fn keeps(&self, member: &TestMember, index: Index) {
        self.0.kept.lock().unwrap().insert(member.id, index);
    }

    /// The numbers of the messages that came, in order.
    pub(super) fn came(&self) -> Vec<u64> {
        self.0.stepped.borrow().iter().map(|message| message.index).collect()
    }

    /// Waits for the message with this number.
    pub(super) async fn gets(&self, number: u64) {
        let mut stepped = self.0.stepped.subscribe();
        let came = stepped.wait_for(|stepped| stepped.iter().any(|came| came.index == number));
        soon("the message", came).await.unwrap();
    }

    /// How often this member was said to be unreachable.
    pub(super) fn missed(&self, member: &TestMember) -> usize {
        self.0.unreachable.borrow().iter().filter(|&&node| node == member.id).count()
    }

    /// Waits until the member was said to be unreachable once more than `before`.
    pub(super) async fn misses(&self, member: &TestMember, before: usize) {
        let mut unreachable = self.0.unreachable.subscribe();
        let missed = unreachable.wait_for(|_| self.missed(member) > before);
        soon("the report", missed).await.unwrap();
    }
}

/// A coordinator without everything but its peers.
pub(super) struct TestMember {
    pub(super) id: NodeId,
    pub(super) address: SocketAddr,
    pub(super) directory: Arc<Directory>,
    pub(super) node: Recorder,
    pub(super) network: Arc<Network<Recorder>>,
    pub(super) history: History,
    server: Server,
    tasks: TaskTracker,
    stop: CancellationToken,
    folder: Arc<TempDir>,
}

/// What ends when a member's process does.
struct Server {
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl TestMember {
    pub(super) async fn start(id: u64, cluster: &str) -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let history = History::open(folder.path().join("history.db")).await.unwrap();
        let listener = listen(0).await;
        let address = listener.local_addr().unwrap();
        let this = This {
            cluster_id: cluster.to_owned(),
            node: NodeId(id),
            peer_address: address.to_string(),
            process: NEXT_PROCESS.fetch_add(1, Ordering::Relaxed),
        };
        let directory = Arc::new(Directory::new(this, TOKEN).unwrap());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let network = Network::new(Arc::clone(&directory), tasks.clone(), stop.clone());
        let node = Recorder::default();
        let mut member = Self {
            id: NodeId(id),
            address,
            directory,
            node: node.clone(),
            network: Arc::new(network),
            history,
            server: Server { tasks: TaskTracker::new(), stop: CancellationToken::new() },
            tasks,
            stop,
            folder,
        };
        member.serve_on(listener);
        member.network.start(node);
        member
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn serve_on(&mut self, listener: TcpListener) {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let outgoing = Outgoing::start(self.folder(), self.history.clone(), &tasks, &stop);
        let service = PeerService {
            directory: Arc::clone(&self.directory),
            node: self.node.clone(),
            history: self.history.clone(),
            files: Files::open(self.folder().join("files"), FilesOptions::default()).unwrap(),
            lacking: watch::Sender::new(Some(0)).subscribe(),
            disk: DiskGuard::new(self.folder().to_owned(), 0),
            tasks: tasks.clone(),
            stop: stop.clone(),
            snapshots: outgoing.unwrap(),
            calls: Arc::default(),
            twins: Arc::default(),
            reach: Reach::default(),
            clock: Environment::system().clock,
        };
        let served = serve(service, Authenticator::new(TOKEN), listener);
        tasks.spawn(async move { served.await.unwrap() });
        self.server = Server { tasks, stop };
    }

    /// Serves no more.
    pub(super) async fn stop_serving(&self) {
        self.server.stop.cancel();
        self.server.tasks.close();
        soon("the end of the server", self.server.tasks.wait()).await;
    }

    /// Serves again where it did.
    pub(super) async fn serve_again(&mut self) {
        let listener = listen(self.address.port()).await;
        self.serve_on(listener);
    }

    /// Serves elsewhere.
    pub(super) async fn move_away(&mut self) {
        let listener = listen(0).await;
        self.address = listener.local_addr().unwrap();
        self.serve_on(listener);
    }

    /// Tells this member who belongs to the cluster.
    pub(super) fn learns(&self, members: &Members) {
        self.directory.installed(&members.state);
    }

    /// Sends a message with this number to another.
    pub(super) fn send(&self, to: &TestMember, number: u64) {
        self.send_with(to, number, Vec::new());
    }

    /// Sends a message with this number, and so many bytes.
    pub(super) fn send_with(&self, to: &TestMember, number: u64, payload: Vec<u8>) {
        let message = Message {
            from: self.id.0,
            to: to.id.0,
            index: number,
            context: payload.into(),
            ..Message::default()
        };
        self.network.send(vec![message]);
    }

    /// Sends messages with numbers from `first` on, until `happens` does.
    pub(super) async fn sends<T>(
        &self,
        to: &TestMember,
        first: u64,
        happens: impl Future<Output = T>,
    ) -> T {
        let sending = async {
            for number in first.. {
                self.send(to, number);
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            happened = soon("what is sent for", happens) => happened,
            () = sending => unreachable!("numbers do not end"),
        }
    }

    /// Sends messages with numbers from `first` on, until one has come.
    pub(super) async fn reaches(&self, to: &TestMember, first: u64) {
        let mut stepped = to.node.0.stepped.subscribe();
        let came = stepped.wait_for(|stepped| stepped.iter().any(|came| came.index >= first));
        self.sends(to, first, came).await.unwrap();
    }
}

impl Drop for TestMember {
    fn drop(&mut self) {
        self.stop.cancel();
        self.server.stop.cancel();
        self.tasks.close();
    }
}

async fn listen(port: u16) -> TcpListener {
    TcpListener::bind(("127.0.0.1", port)).await.unwrap()
}

/// Two members that know each other.
pub(super) async fn two() -> (TestMember, TestMember) {
    let one = TestMember::start(1, CLUSTER).await;
    let two = TestMember::start(2, CLUSTER).await;
    let members = Members::of(&[&one, &two]);
    one.learns(&members);
    two.learns(&members);
    (one, two)
}

/// A way to a member that cuts each connection after so many bytes of answers.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    passed: Arc<Mutex<Vec<u64>>>,
    frozen: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(super) async fn start(to: SocketAddr, limit: u64) -> Self {
        let listener = listen(0).await;
        let address = listener.local_addr().unwrap();
        let passed = Arc::<Mutex<Vec<u64>>>::default();
        let frozen = watch::Sender::new(false);
        let (counts, freezes) = (Arc::clone(&passed), frozen.subscribe());
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut caller, _)) = listener.accept().await {
                let (counts, mut freezes) = (Arc::clone(&counts), freezes.clone());
                connections.spawn(async move {
                    let freezes = tokio::select! {
                        bytes = pass(&mut caller, to, limit) => {
                            counts.lock().unwrap().push(bytes.unwrap_or(0));
                            false
                        }
                        frozen = freezes.wait_for(|frozen| *frozen) => frozen.is_ok(),
                    };
                    if freezes {
                        // The connection stays open, and nothing passes any more.
                        std::future::pending::<()>().await;
                    }
                });
            }
        });
        Self { address, passed, frozen, _tasks: tasks }
    }

    /// How many bytes of answers each connection that was cut has passed.
    pub(super) fn passed(&self) -> Vec<u64> {
        self.passed.lock().unwrap().clone()
    }

    /// Passes nothing more, and says so to nobody; or passes what new connections say.
    pub(super) fn freeze(&self, frozen: bool) {
        self.frozen.send_replace(frozen);
    }
}

async fn pass(caller: &mut TcpStream, to: SocketAddr, limit: u64) -> io::Result<u64> {
    let mut callee = TcpStream::connect(to).await?;
    let (mut asked, mut answered) = caller.split();
    let (answers, mut asks) = callee.split();
    let mut answers = answers.take(limit);
    tokio::select! {
        passed = tokio::io::copy(&mut answers, &mut answered) => passed,
        asked = tokio::io::copy(&mut asked, &mut asks) => asked.map(|_| 0),
    }
}

/// A member, and another one behind a proxy.
pub(super) async fn through_proxy(limit: u64) -> (TestMember, TestMember, Proxy) {
    let one = TestMember::start(1, CLUSTER).await;
    let mut two = TestMember::start(2, CLUSTER).await;
    let proxy = Proxy::start(two.address, limit).await;
    two.address = proxy.address;
    let members = Members::of(&[&one, &two]);
    one.learns(&members);
    two.learns(&members);
    (one, two, proxy)
}

/// A cluster's members, as its log has them.
pub(super) struct Members {
    state: State,
}

impl Members {
    /// These, where they serve.
    pub(super) fn of(members: &[&TestMember]) -> Self {
        let (first, others) = members.split_first().unwrap();
        let mut members = Self { state: State::default() };
        members.apply(Command::FoundCluster(FoundCluster {
            cluster_id: CLUSTER.to_owned(),
            node: first.id,
            member: member(first.id, first.address),
            at: Timestamp(0),
        }));
        for other in others {
            members.put(other.id, other.address);
        }
        members
    }

    /// Admits a member, or changes its address.
    pub(super) fn put(&mut self, node: NodeId, address: SocketAddr) {
        let member = member(node, address);
        self.apply(Command::PutMember(PutMember { node, member, at: Timestamp(0) }));
    }

    pub(super) fn remove(&mut self, node: NodeId) {
        self.apply(Command::RemoveMember(RemoveMember { node, at: Timestamp(0) }));
    }

    fn apply(&mut self, command: Command) {
        let (reply, _) = self.state.apply(self.state.applied() + 1, command);
        reply.unwrap();
    }
}

fn member(node: NodeId, address: SocketAddr) -> Member {
    Member {
        instance: format!("instance {node}"),
        address: String::new(),
        peer_address: address.to_string(),
        version: String::new(),
        level: Level::NEWEST,
    }
}
