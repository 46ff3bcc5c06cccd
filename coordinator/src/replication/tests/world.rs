//! Several nodes in one process: real stores and real gRPC over loopback, with a
//! wire between each two that a test can cut.

use std::{
    collections::{BTreeMap, HashSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::SystemTime,
};

use baton_proto::peer::{self, peer_server};
use baton_state::NodeId;
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream::BoxStream,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};
use tonic::{Request, Response, Status, Streaming, transport::Server};

use super::super::{wanted::WantedError, *};
use crate::{
    environment::Environment,
    files::FilesOptions,
    history,
    peers::{Directory, This},
};

/// Nodes 1 to N, all of which vote; node 1 leads.
pub(super) struct World {
    folder: tempfile::TempDir,
    pub(super) nodes: BTreeMap<u64, Node>,
    wires: BTreeMap<(u64, u64), Wire>,
}

/// One node.
pub(super) struct Node {
    pub(super) files: Files,
    pub(super) replication: Replication,
    pub(super) standing: watch::Sender<Standing>,
    pub(super) unwanted: Arc<Unwanted>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// Everything is wanted but these, as far as that is known.
#[derive(Default)]
pub(super) struct Unwanted {
    pub(super) names: Mutex<HashSet<FileName>>,
    /// Of the others nobody can say.
    pub(super) unknown: AtomicBool,
}

impl Wanted for Unwanted {
    fn is_wanted(
        &self,
        name: FileName,
        _modified: SystemTime,
    ) -> BoxFuture<'_, Result<bool, WantedError>> {
        let is_wanted = !self.names.lock().unwrap().contains(&name);
        let is_known = !is_wanted || !self.unknown.load(Ordering::Relaxed);
        let answer = is_known.then_some(is_wanted);
        async move { answer.ok_or(WantedError::History(history::Error::Stopped)) }.boxed()
    }
}

impl World {
    /// Nodes whose stores are what `prepare` puts into each before it starts.
    pub(super) async fn with(nodes: u64, prepare: impl AsyncFn(u64, &Files)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        for node in 1..=nodes {
            let files = open(&folder_of(folder.path(), node));
            prepare(node, &files).await;
        }
        let mut world = Self { folder, nodes: BTreeMap::new(), wires: BTreeMap::new() };
        for from in 1..=nodes {
            for to in (1..=nodes).filter(|to| *to != from) {
                world.wires.insert((from, to), Wire::start().await);
            }
        }
        for node in 1..=nodes {
            world.start(node, nodes).await;
        }
        world
    }

    pub(super) async fn new(nodes: u64) -> Self {
        Self::with(nodes, async |_, _| {}).await
    }

    pub(super) fn node(&self, node: u64) -> &Node {
        &self.nodes[&node]
    }

    pub(super) fn files(&self, node: u64) -> &Files {
        &self.nodes[&node].files
    }

    pub(super) fn wire(&self, from: u64, to: u64) -> &Wire {
        &self.wires[&(from, to)]
    }

    /// Whether a node can reach others and be reached.
    pub(super) fn connect(&self, node: u64, gate: Gate) {
        for ((from, to), wire) in &self.wires {
            if *from == node || *to == node {
                wire.gate.send_replace(gate);
            }
        }
    }

    pub(super) fn lead(&self, leader: u64) {
        for (node, of) in &self.nodes {
            of.standing.send_modify(|standing| {
                standing.leader = NodeId(leader);
                standing.leading = leader == *node;
            });
        }
    }

    pub(super) async fn stop(&mut self, node: u64) {
        let Node { files, replication, tasks, stop, .. } = self.nodes.remove(&node).unwrap();
        stop.cancel();
        tasks.close();
        tasks.wait().await;
        drop((files, replication));
    }

    pub(super) async fn start(&mut self, node: u64, nodes: u64) {
        let files = open(&folder_of(self.folder.path(), node));
        let this = This {
            cluster_id: "c".to_owned(),
            node: NodeId(node),
            peer_address: "unused".to_owned(),
            process: node,
        };
        let directory = Arc::new(Directory::new(this, "token").unwrap());
        for other in (1..=nodes).filter(|other| *other != node) {
            let hello = peer::Hello {
                cluster_id: "c".to_owned(),
                from: other,
                to: node,
                from_address: self.wire(node, other).address.to_string(),
                ..peer::Hello::default()
            };
            directory.check(Some(&hello)).unwrap();
        }
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        for ((_, to), wire) in &self.wires {
            if *to == node {
                wire.target.send_replace(Some(address));
            }
        }
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let served = Served { node, files: files.clone(), stop: stop.clone() };
        let until = stop.clone().cancelled_owned();
        tasks.spawn(async move {
            let incoming = tonic::transport::server::TcpIncoming::from(listener);
            let service = peer_server::PeerServer::new(served);
            let server = Server::builder().add_service(service);
            server.serve_with_incoming_shutdown(incoming, until).await.unwrap();
        });
        let voters = (1..=nodes).map(NodeId).collect();
        let standing =
            Standing { this: NodeId(node), leader: NodeId(1), leading: node == 1, voters };
        let (standing, standing_of) = watch::channel(standing);
        let unwanted = Arc::new(Unwanted::default());
        let wanted = Arc::clone(&unwanted) as Arc<dyn Wanted>;
        let replication = Replication::start_with(
            files.clone(),
            directory,
            standing_of,
            wanted,
            Environment::system().clock,
            &tasks,
            &stop,
        );
        let started = Node { files, replication, standing, unwanted, tasks, stop };
        self.nodes.insert(node, started);
    }

    /// The file in a node's store as it is on disk.
    pub(super) fn on_disk(&self, node: u64, name: FileName) -> Option<Vec<u8>> {
        let sealed = self.path(node, name);
        let part = sealed.with_extension("part");
        std::fs::read(sealed).or_else(|_| std::fs::read(part)).ok()
    }

    /// Has a node's disk give other bytes for a sealed file.
    pub(super) fn damage(&self, node: u64, name: FileName, content: &[u8]) {
        std::fs::write(self.path(node, name), content).unwrap();
    }

    fn path(&self, node: u64, name: FileName) -> PathBuf {
        let text = name.to_string();
        let (kind, stem) = text.split_once('/').unwrap();
        let shard = match name {
            FileName::Log { .. } => &stem[24..26],
            FileName::Upload { .. } => &stem[..2],
        };
        folder_of(self.folder.path(), node).join(kind).join(shard).join(stem)
    }
}

fn folder_of(folder: &Path, node: u64) -> PathBuf {
    folder.join(node.to_string())
}

fn open(folder: &Path) -> Files {
    Files::open(folder, FilesOptions::default()).unwrap()
}

/// The part of the peers' API that this is about.
struct Served {
    node: u64,
    files: Files,
    stop: CancellationToken,
}

#[tonic::async_trait]
impl peer_server::Peer for Served {
    type RaftStream = BoxStream<'static, Result<peer::RaftResponse, Status>>;

    async fn raft(
        &self,
        _: Request<Streaming<peer::RaftRequest>>,
    ) -> Result<Response<Self::RaftStream>, Status> {
        Err(Status::unimplemented("raft"))
    }

    type SnapshotStream = BoxStream<'static, Result<peer::SnapshotResponse, Status>>;

    async fn snapshot(
        &self,
        _: Request<peer::SnapshotRequest>,
    ) -> Result<Response<Self::SnapshotStream>, Status> {
        Err(Status::unimplemented("snapshot"))
    }

    type WatchFilesStream = BoxStream<'static, Result<peer::WatchFilesResponse, Status>>;

    async fn watch_files(
        &self,
        request: Request<peer::WatchFilesRequest>,
    ) -> Result<Response<Self::WatchFilesStream>, Status> {
        assert_eq!(request.get_ref().hello.as_ref().unwrap().to, self.node);
        let told = serve::watch_files(&self.files, self.stop.clone());
        Ok(Response::new(told.map_err(Status::from).boxed()))
    }

    type ReadFileStream = BoxStream<'static, Result<peer::ReadFileResponse, Status>>;

    async fn read_file(
        &self,
        request: Request<peer::ReadFileRequest>,
    ) -> Result<Response<Self::ReadFileStream>, Status> {
        let request = request.into_inner();
        assert_eq!(request.hello.as_ref().unwrap().to, self.node);
        let stop = self.stop.clone();
        let read =
            serve::read_file(&self.files, request.name.as_ref(), request.offset, stop).await?;
        Ok(Response::new(read.map_err(Status::from).boxed()))
    }

    async fn status(
        &self,
        _: Request<peer::StatusRequest>,
    ) -> Result<Response<peer::StatusResponse>, Status> {
        Err(Status::unimplemented("status"))
    }
}

/// What a wire lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    Open,
    /// What there was is cut, and nothing new comes about.
    Cut,
    /// Bytes stay where they are.
    Stalled,
}

/// The connections of one node to another.
pub(super) struct Wire {
    address: SocketAddr,
    pub(super) gate: watch::Sender<Gate>,
    target: watch::Sender<Option<SocketAddr>>,
    pub(super) meter: Arc<Meter>,
    _accepting: JoinSet<()>,
}

/// Bytes that came back over a wire.
pub(super) struct Meter {
    pub(super) carried: AtomicU64,
    /// When no more are left, the connection is cut, once.
    pub(super) until_cut: AtomicI64,
}

impl Wire {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let meter =
            Arc::new(Meter { carried: AtomicU64::new(0), until_cut: AtomicI64::new(i64::MAX) });
        let (gate, target) = (watch::Sender::new(Gate::Open), watch::Sender::new(None));
        let mut accepting = JoinSet::new();
        let (gates, targets, metered) = (gate.subscribe(), target.subscribe(), Arc::clone(&meter));
        accepting.spawn(async move {
            let mut carrying = JoinSet::new();
            loop {
                let (client, _) = listener.accept().await.unwrap();
                let Some(target) = *targets.borrow() else { continue };
                if *gates.borrow() == Gate::Cut {
                    continue;
                }
                carrying.spawn(carry(client, target, gates.clone(), Arc::clone(&metered)));
            }
        });
        Self { address, gate, target, meter, _accepting: accepting }
    }
}

async fn carry(
    client: TcpStream,
    target: SocketAddr,
    gate: watch::Receiver<Gate>,
    meter: Arc<Meter>,
) {
    let Ok(server) = TcpStream::connect(target).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let mut cut = gate.clone();
    let (there, mut open) = (gate.clone(), gate);
    tokio::select! {
        _ = cut.wait_for(|gate| *gate == Gate::Cut) => {}
        () = pump(&mut from_client, &mut to_server, there, None) => {}
        () = async {
            let _ = open.wait_for(|gate| *gate == Gate::Open).await;
            pump(&mut from_server, &mut to_client, open, Some(&meter)).await;
        } => {}
    }
}

async fn pump(
    from: &mut tokio::net::tcp::OwnedReadHalf,
    to: &mut tokio::net::tcp::OwnedWriteHalf,
    mut gate: watch::Receiver<Gate>,
    meter: Option<&Meter>,
) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else { return };
        if gate.wait_for(|gate| *gate == Gate::Open).await.is_err() {
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
        if let Some(meter) = meter {
            meter.carried.fetch_add(read as u64, Ordering::Relaxed);
            let left = meter.until_cut.fetch_sub(read as i64, Ordering::Relaxed);
            if left <= read as i64 {
                meter.until_cut.store(i64::MAX, Ordering::Relaxed);
                return;
            }
        }
    }
}
