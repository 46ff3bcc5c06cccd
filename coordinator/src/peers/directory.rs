//! Who the other members are, a connection to each, and who may call this node.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use baton_proto::{
    error::{ApiError, Reason},
    peer::{self, peer_client::PeerClient},
};
use baton_state::{Event, Index, NodeId, State};
use tokio::{runtime::Handle, sync::watch, time::timeout};
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::{Interceptor, interceptor::InterceptedService},
    transport::{Channel, Endpoint},
};
use tracing::warn;

use crate::{auth, raft::Observer};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long a member may take to say how it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// A member that is gone without a word is noticed after about twice this.
const KEEPALIVE: Duration = Duration::from_secs(2);
/// Bytes on their way to this node at once, of one file and of all.
const STREAM_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 8 * 1024 * 1024;
pub(super) const MAX_MESSAGE: usize = 64 * 1024 * 1024;

/// A client of another coordinator.
pub(crate) type Client = PeerClient<InterceptedService<Channel, Bearer>>;

/// This node, as it says who it is.
#[derive(Clone, Debug)]
pub(crate) struct This {
    pub(crate) cluster_id: String,
    pub(crate) node: NodeId,
    /// Where it serves its peers, as seen from them.
    pub(crate) peer_address: String,
    /// Which run of the coordinator this is, never 0.
    pub(crate) process: u64,
}

/// Another member and the connections to it. Clones share them.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    pub(crate) address: String,
    control: Channel,
    bulk: Channel,
    bearer: Bearer,
}

/// Adds the token to each call.
#[derive(Clone)]
pub(crate) struct Bearer(MetadataValue<Ascii>);

impl Interceptor for Bearer {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

impl Peer {
    /// For what must not wait.
    pub(crate) fn control(&self) -> Client {
        self.client(&self.control)
    }

    /// For what is large.
    pub(crate) fn bulk(&self) -> Client {
        self.client(&self.bulk)
    }

    fn client(&self, channel: &Channel) -> Client {
        PeerClient::with_interceptor(channel.clone(), self.bearer.clone())
            .max_decoding_message_size(MAX_MESSAGE)
            .max_encoding_message_size(MAX_MESSAGE)
    }
}

/// The other members, as this node knows them from its log, and before it has one
/// from what they say.
pub(crate) struct Directory {
    this: This,
    bearer: Bearer,
    runtime: Handle,
    known: Mutex<Known>,
    peers: watch::Sender<BTreeMap<NodeId, Peer>>,
    removed: watch::Sender<bool>,
}

#[derive(Default)]
struct Known {
    /// From the log; empty until this node has some of it.
    members: BTreeMap<NodeId, String>,
    /// The first number that no member had yet.
    next: NodeId,
}

impl Directory {
    /// A directory that knows nobody yet.
    ///
    /// # Errors
    /// When the token cannot be sent.
    pub(crate) fn new(this: This, token: &str) -> Result<Self, ApiError> {
        let bearer = auth::bearer(token)?;
        Ok(Self {
            this,
            bearer: Bearer(bearer),
            runtime: Handle::current(),
            known: Mutex::default(),
            peers: watch::Sender::default(),
            removed: watch::Sender::default(),
        })
    }

    /// The other members, as they change.
    pub(crate) fn peers(&self) -> watch::Receiver<BTreeMap<NodeId, Peer>> {
        self.peers.subscribe()
    }

    /// One other member.
    pub(crate) fn peer(&self, node: NodeId) -> Option<Peer> {
        self.peers.borrow().get(&node).cloned()
    }

    /// This node.
    pub(crate) fn this(&self) -> NodeId {
        self.this.node
    }

    /// Becomes true when this node is a member no more.
    pub(crate) fn removed(&self) -> watch::Receiver<bool> {
        self.removed.subscribe()
    }

    /// Another member has said that this node was removed.
    pub(crate) fn told_removed(&self) {
        self.removed.send_replace(true);
    }

    /// What a call to `to` begins with.
    pub(crate) fn hello(&self, to: NodeId) -> peer::Hello {
        peer::Hello {
            cluster_id: self.this.cluster_id.clone(),
            from: self.this.node.0,
            to: to.0,
            from_address: self.this.peer_address.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            process: self.this.process,
        }
    }

    /// How another member is.
    ///
    /// # Errors
    /// The refusal of whoever answers in its place, or that nobody answers in time.
    pub(crate) async fn status_of(&self, node: NodeId) -> Result<peer::StatusResponse, Status> {
        let request = peer::StatusRequest { hello: Some(self.hello(node)) };
        let peer =
            self.peer(node).ok_or_else(|| Status::unavailable("its address is not known"))?;
        let mut client = peer.control();
        let answer = timeout(ANSWER_WITHIN, client.status(request)).await;
        Ok(answer.map_err(|_| Status::deadline_exceeded("it does not answer"))??.into_inner())
    }

    /// Who calls, if it is a member that means this node. Where this node does not
    /// know the caller's address yet, it learns it.
    ///
    /// # Errors
    /// What to tell the caller.
    pub(crate) fn check(&self, hello: Option<&peer::Hello>) -> Result<NodeId, ApiError> {
        let Some(hello) = hello else {
            return Err(ApiError::new(Reason::InvalidArgument, "hello is missing", ""));
        };
        if hello.cluster_id != self.this.cluster_id {
            return Err(ApiError::new(
                Reason::WrongCluster,
                format!("this is cluster {}, not {}", self.this.cluster_id, hello.cluster_id),
                "check the addresses of the members",
            ));
        }
        if hello.to != self.this.node.0 {
            return Err(ApiError::new(
                Reason::WrongNode,
                format!("this is member {}, not {}", self.this.node, hello.to),
                "check the addresses of the members",
            ));
        }
        let from = NodeId(hello.from);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.members.contains_key(&from) {
            return Ok(from);
        }
        if from < known.next {
            return Err(ApiError::new(
                Reason::MemberRemoved,
                format!("member {from} was removed from the cluster"),
                "stop it; to bring its host back, let it join with an empty data folder",
            ));
        }
        // It is newer than this node's log: the entry that admits it is on its way.
        self.peers.send_if_modified(|peers| self.put(peers, from, &hello.from_address));
        Ok(from)
    }

    /// Whether that changed anything.
    fn put(&self, peers: &mut BTreeMap<NodeId, Peer>, node: NodeId, address: &str) -> bool {
        if peers.get(&node).is_some_and(|peer| peer.address == address) {
            return false;
        }
        let _runtime = self.runtime.enter();
        let endpoint = match Endpoint::from_shared(format!("http://{address}")) {
            Ok(endpoint) => endpoint,
            Err(error) => {
                warn!(%node, address, %error, "a member's address cannot be used");
                return false;
            }
        };
        let endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEPALIVE)
            .keep_alive_timeout(KEEPALIVE)
            .keep_alive_while_idle(true);
        let peer = Peer {
            node,
            address: address.to_owned(),
            control: endpoint.connect_lazy(),
            // Over a distance, a small window would be what limits a large file.
            bulk: endpoint
                .initial_stream_window_size(STREAM_WINDOW)
                .initial_connection_window_size(CONNECTION_WINDOW)
                .connect_lazy(),
            bearer: self.bearer.clone(),
        };
        peers.insert(node, peer);
        true
    }

    fn take(&self, state: &State) {
        let members = state.members();
        if members.is_empty() {
            return;
        }
        {
            let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            let addresses =
                members.iter().map(|(node, member)| (*node, member.peer_address.clone()));
            known.members = addresses.collect();
            known.next = state.next_node();
        }
        let this = self.this.node;
        if this < state.next_node() && !members.contains_key(&this) {
            self.removed.send_replace(true);
        }
        self.peers.send_if_modified(|peers| {
            let before = peers.len();
            peers.retain(|node, _| members.contains_key(node) || *node >= state.next_node());
            let mut changed = peers.len() != before;
            for (node, member) in members.iter().filter(|(node, _)| **node != this) {
                changed |= self.put(peers, *node, &member.peer_address);
            }
            changed
        });
    }
}

impl Observer for Directory {
    fn applied(&self, _through: Index, state: &State, events: &[Event]) {
        if events.iter().any(|event| event.kind.is_about_members()) {
            self.take(state);
        }
    }

    fn installed(&self, state: &State) {
        self.take(state);
    }
}
