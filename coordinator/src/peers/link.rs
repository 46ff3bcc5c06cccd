//! One task for each other member, which sends it what Raft says, over one call that
//! lasts. What cannot be sent is dropped: Raft repeats it once it knows. Nobody who
//! sends ever waits.

use std::{error::Error as _, sync::Arc, time::Duration};

use baton_proto::{
    error::{ApiError, Reason},
    peer::{RaftMessages, RaftRequest, raft_request::Item},
};
use protobuf::Message as _;
use raft::eraftpb::Message;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use tonic::Status;
use tracing::{info, warn};

use super::{Directory, directory::Peer, node::Node, retry::Delays};
use crate::errors::root_cause;

/// Messages that wait for one member; further ones are dropped.
pub(super) const QUEUE: usize = 4096;
/// Messages in one batch, and the bytes from which on a batch takes no more.
const BATCH: usize = 128;
const BATCH_BYTES: usize = 1024 * 1024;
/// The wait after a refusal, which only a person can end.
const REFUSED_WAIT: Duration = Duration::from_secs(5);
/// A member that takes longer to welcome a call is tried again.
const WELCOME_WITHIN: Duration = Duration::from_secs(5);

/// The way to one other member. It ends with this.
pub(super) struct Link<N> {
    peer: Peer,
    node: N,
    queue: mpsc::Sender<Message>,
    overflows: bool,
    _end: DropGuard,
}

impl<N: Node> Link<N> {
    /// Starts the link's task; it connects when there is something to send.
    pub(super) fn start(
        peer: Peer,
        directory: Arc<Directory>,
        node: N,
        tasks: &TaskTracker,
        end: CancellationToken,
    ) -> Self {
        let (queue, messages) = mpsc::channel(QUEUE);
        let caller = Caller {
            peer: peer.clone(),
            directory,
            node: node.clone(),
            messages,
            standing: Standing::Unknown,
        };
        tasks.spawn(end.clone().run_until_cancelled_owned(caller.run()));
        Self { peer, node, queue, overflows: false, _end: end.drop_guard() }
    }

    /// Where it leads.
    pub(super) fn address(&self) -> &str {
        &self.peer.address
    }

    /// The member wants nothing more from this node.
    #[cfg(test)]
    pub(super) fn is_ended(&self) -> bool {
        self.queue.is_closed()
    }

    /// Sends a message, or drops it and tells the node.
    pub(super) fn send(&mut self, message: Message) {
        let overflowed = match self.queue.try_send(message) {
            Ok(()) => false,
            // The member refuses for ever what this node sends.
            Err(TrySendError::Closed(_)) => return,
            Err(TrySendError::Full(_)) => true,
        };
        // Once is enough for as long as nothing can be sent.
        if overflowed && !self.overflows {
            self.node.unreachable(self.peer.node);
        }
        self.overflows = overflowed;
    }
}

/// What was last logged about a member.
#[derive(PartialEq, Eq)]
enum Standing {
    Unknown,
    Connected,
    Lost,
    Refused(Reason),
}

/// The task of a link.
struct Caller<N> {
    peer: Peer,
    directory: Arc<Directory>,
    node: N,
    messages: mpsc::Receiver<Message>,
    standing: Standing,
}

impl<N: Node> Caller<N> {
    async fn run(mut self) {
        let mut delays = Delays::default();
        while let Some(first) = self.messages.recv().await {
            let ended = self.call(first).await;
            if self.standing == Standing::Connected {
                delays = Delays::default();
            }
            self.node.unreachable(self.peer.node);
            self.note(&ended);
            match self.standing {
                Standing::Refused(Reason::MemberRemoved) => return self.directory.told_removed(),
                Standing::Refused(_) => tokio::time::sleep(REFUSED_WAIT).await,
                _ => delays.wait().await,
            }
            // What has come meanwhile is old; Raft says it again.
            self.drop_waiting();
        }
    }

    /// Calls the member and sends what there is, until that ends.
    async fn call(&mut self, first: Message) -> Status {
        let (requests, body) = mpsc::channel(1);
        let hello = Item::Hello(self.directory.hello(self.peer.node));
        // There is room for one.
        let _ = requests.try_send(RaftRequest { item: Some(hello) });
        let mut client = self.peer.control();
        let call = client.raft(ReceiverStream::new(body));
        let mut answers = match tokio::time::timeout(WELCOME_WITHIN, call).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) => return status,
            Err(_) => return Status::deadline_exceeded("it does not answer"),
        };
        if self.stands(Standing::Connected) {
            info!(member = %self.peer.node, address = self.peer.address, "connected to a member");
        }
        let early = tokio::select! {
            ended = answers.message() => Some(ended),
            () = pump(&mut self.messages, first, requests) => None,
        };
        let ended = match early {
            Some(ended) => ended,
            // Nobody takes any more: the answer says why.
            None => answers.message().await,
        };
        ended.err().unwrap_or_else(|| Status::unavailable("it ended the call"))
    }

    /// Notes why a call ended, and logs it where that is new.
    fn note(&mut self, ended: &Status) {
        let refusal = ApiError::from_status(ended).filter(|error| !error.reason.is_temporary());
        let standing = refusal.as_ref().map_or(Standing::Lost, |it| Standing::Refused(it.reason));
        if !self.stands(standing) {
            return;
        }
        let (member, address) = (self.peer.node, &self.peer.address);
        match refusal {
            Some(error) => {
                warn!(%member, address, %error, action = error.action, "a member refuses this node");
            }
            None => {
                warn!(%member, address, error = why(ended), "a member cannot be reached");
            }
        }
    }

    /// Whether that is new.
    fn stands(&mut self, standing: Standing) -> bool {
        let before = std::mem::replace(&mut self.standing, standing);
        before != self.standing
    }

    fn drop_waiting(&mut self) {
        // No more than there can be at once, so that this ends while others send.
        for _ in 0..QUEUE {
            if self.messages.try_recv().is_err() {
                return;
            }
        }
    }
}

/// Sends in batches until nobody takes or gives any more.
async fn pump(
    messages: &mut mpsc::Receiver<Message>,
    first: Message,
    requests: mpsc::Sender<RaftRequest>,
) {
    let mut first = Some(first);
    while let Some(message) = first {
        let batch = Item::Messages(batch(messages, &message));
        if requests.send(RaftRequest { item: Some(batch) }).await.is_err() {
            return;
        }
        first = messages.recv().await;
    }
}

/// A message and those that wait behind it.
fn batch(messages: &mut mpsc::Receiver<Message>, first: &Message) -> RaftMessages {
    let mut batch = RaftMessages::default();
    let mut bytes = 0;
    let mut put = |message: &Message| match message.write_to_bytes() {
        Ok(message) => {
            bytes += message.len();
            batch.messages.push(message.into());
            batch.messages.len() < BATCH && bytes < BATCH_BYTES
        }
        Err(error) => {
            warn!(%error, "a Raft message cannot be encoded");
            true
        }
    };
    let mut more = put(first);
    while more && let Ok(message) = messages.try_recv() {
        more = put(&message);
    }
    batch
}

fn why(status: &Status) -> String {
    status.source().map_or_else(|| status.message().to_owned(), root_cause)
}
