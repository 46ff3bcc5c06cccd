//! What Raft has for other nodes, given to the links and to the transfer of snapshots.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use baton_state::NodeId;
use raft::eraftpb::Message;
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Directory,
    directory::Peer,
    link::Link,
    node::Node,
    snapshot::{self, PATIENCE, Wanted},
};
use crate::raft::{Fetch, Transport};

/// The ways to the other members. It is made before the node, which needs it, and
/// sends nothing until it has been started.
pub(crate) struct Network<N> {
    directory: Arc<Directory>,
    runtime: Handle,
    tasks: TaskTracker,
    stop: CancellationToken,
    links: Mutex<BTreeMap<NodeId, Link<N>>>,
    /// Held by a fetch: two would write the same files.
    fetching: Arc<tokio::sync::Mutex<()>>,
}

impl<N: Node> Network<N> {
    /// A network whose tasks run on this runtime until `stop`.
    pub(crate) fn new(
        directory: Arc<Directory>,
        tasks: TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        Self {
            directory,
            runtime: Handle::current(),
            tasks,
            stop,
            links: Mutex::default(),
            fetching: Arc::default(),
        }
    }

    /// Links this node to the members, as they come and go.
    pub(crate) fn start(self: &Arc<Self>, node: N) {
        let network = Arc::clone(self);
        self.tasks.spawn(async move {
            network.stop.run_until_cancelled(network.follow(&node)).await;
            network.links().clear();
        });
    }

    async fn follow(&self, node: &N) {
        let mut peers = self.directory.peers();
        loop {
            self.link(&peers.borrow_and_update(), node);
            if peers.changed().await.is_err() {
                return;
            }
        }
    }

    fn link(&self, peers: &BTreeMap<NodeId, Peer>, node: &N) {
        let mut links = self.links();
        links.retain(|id, link| peers.get(id).is_some_and(|peer| peer.address == link.address()));
        for (&id, peer) in peers {
            links.entry(id).or_insert_with(|| {
                let directory = Arc::clone(&self.directory);
                let end = self.stop.child_token();
                Link::start(peer.clone(), directory, node.clone(), &self.tasks, end)
            });
        }
    }

    pub(super) fn links(&self) -> MutexGuard<'_, BTreeMap<NodeId, Link<N>>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<N: Node> Transport for Network<N> {
    fn send(&self, messages: Vec<Message>) {
        let mut links = self.links();
        for message in messages {
            if let Some(link) = links.get_mut(&NodeId(message.to)) {
                link.send(message);
            }
        }
    }

    fn fetch(&self, fetch: Fetch) {
        let Fetch { from, index, state_blake3, into, done } = fetch;
        let wanted = Wanted { from, index, state_blake3, into };
        let directory = Arc::clone(&self.directory);
        let (fetching, stop) = (Arc::clone(&self.fetching), self.stop.clone());
        let fetched = async move {
            let _turn = fetching.lock().await;
            snapshot::fetch(&directory, &wanted, PATIENCE).await
        };
        let told = async move {
            let fetched = stop.run_until_cancelled(fetched).await;
            done(fetched.unwrap_or_else(|| Err(io::Error::other("the coordinator is stopping"))));
        };
        self.tasks.spawn_on(told, &self.runtime);
    }
}
