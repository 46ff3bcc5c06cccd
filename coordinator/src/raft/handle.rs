//! How the rest of the coordinator talks to the node's thread.

use std::{
    io,
    sync::{Arc, RwLock, RwLockReadGuard, mpsc},
};

use baton_state::{Command, Index, NodeId, Refusal, Reply, State};
use raft::eraftpb::Message;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot, watch};

use super::{RaftError, receiving::Received, store::SnapshotRecord};

/// Proposals under way at once; further ones wait.
const IN_FLIGHT: usize = 4096;
/// Batches of other nodes' messages under way at once; further ones wait.
const STEPS: usize = 64;

/// What the node's thread is asked.
pub(super) enum Input {
    Propose {
        command: Box<Command>,
        waiting: Waiting,
    },
    /// Change the members, with a command that is carried out only together with it.
    Change {
        change: Change,
        command: Option<Box<Command>>,
        waiting: Waiting,
    },
    Read {
        reply: oneshot::Sender<Result<(), ProposeError>>,
    },
    /// Messages of other nodes, and their place among those under way.
    Step {
        messages: Vec<Message>,
        _place: OwnedSemaphorePermit,
    },
    /// A message to this node may not have arrived.
    Unreachable(NodeId),
    /// Let this node lead instead.
    Transfer(NodeId),
    /// How far the others are.
    Progress {
        reply: oneshot::Sender<Vec<Progress>>,
    },
    /// The last entry that a node is known to keep.
    Kept {
        node: NodeId,
        reply: oneshot::Sender<Index>,
    },
    /// The snapshot that was being written.
    Snapshotted(Result<SnapshotRecord, RaftError>),
    /// The snapshot that was being fetched.
    Received(io::Result<Box<Received>>),
    Stop,
}

/// A change of who is a member of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Admit a node that listens.
    AddLearner(NodeId),
    /// Let a node vote.
    Promote(NodeId),
    /// Remove a node.
    Remove(NodeId),
}

/// How far a node is, as the leader knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Which.
    pub node: NodeId,
    /// It votes.
    pub voter: bool,
    /// The last entry that it is known to have.
    pub matched: Index,
    /// It has answered within the last election timeout.
    pub active: bool,
}

/// A caller who waits for a proposal, and its place among those under way: kept
/// until the proposal is answered, even if the caller has gone.
pub(super) struct Waiting {
    reply: oneshot::Sender<Result<Reply, ProposeError>>,
    _place: OwnedSemaphorePermit,
}

impl Waiting {
    pub(super) fn answer(self, answer: Result<Reply, ProposeError>) {
        // A caller that has gone needs none.
        let _ = self.reply.send(answer);
    }
}

/// Why a proposal was not carried out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The state refused it; it changed nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// This node is not the leader. Nothing was proposed.
    #[error("this node is not the leader")]
    NotLeader,
    /// Leadership was lost while waiting: it may or may not be carried out.
    #[error("leadership was lost")]
    LeadershipLost,
    /// Another change of the members is under way. Nothing was proposed.
    #[error("another change of the members is under way")]
    Changing,
    /// The node has stopped: it may or may not have been carried out.
    #[error("the node has stopped")]
    Stopped,
}

/// Where the node stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub node_id: u64,
    /// The leader, or 0.
    pub leader_id: u64,
    /// This node leads and has applied everything of earlier terms.
    pub leading: bool,
    /// The term.
    pub term: u64,
    /// The last entry known to be committed.
    pub committed: Index,
    /// The last entry applied here.
    pub applied: Index,
    /// The log before this entry is given up.
    pub first_index: Index,
    /// Who votes.
    pub voters: Vec<u64>,
    /// Who only listens.
    pub learners: Vec<u64>,
    /// Why the node stopped by itself.
    pub failure: Option<String>,
}

/// A running node. Cheap to clone; the node stops with [`RaftHandle::stop`].
#[derive(Clone)]
pub struct RaftHandle {
    pub(super) input: mpsc::Sender<Input>,
    pub(super) state: Arc<RwLock<State>>,
    pub(super) status: watch::Receiver<Status>,
    pub(super) in_flight: Arc<Semaphore>,
    pub(super) steps: Arc<Semaphore>,
}

impl RaftHandle {
    pub(super) fn new(
        input: mpsc::Sender<Input>,
        state: Arc<RwLock<State>>,
        status: watch::Receiver<Status>,
    ) -> Self {
        let in_flight = Arc::new(Semaphore::new(IN_FLIGHT));
        Self { input, state, status, in_flight, steps: Arc::new(Semaphore::new(STEPS)) }
    }

    /// Has a command carried out: on disk and applied when this returns.
    ///
    /// # Errors
    /// [`ProposeError`]; only `Refused` and `NotLeader` are certain to have changed nothing.
    pub async fn propose(&self, command: Command) -> Result<Reply, ProposeError> {
        let command = Box::new(command);
        self.wait(|waiting| Input::Propose { command, waiting }).await
    }

    /// Changes the members; the command goes with it or is refused with it.
    ///
    /// # Errors
    /// As [`RaftHandle::propose`], and [`ProposeError::Changing`].
    pub async fn change(
        &self,
        change: Change,
        command: Option<Command>,
    ) -> Result<Reply, ProposeError> {
        let command = command.map(Box::new);
        self.wait(|waiting| Input::Change { change, command, waiting }).await
    }

    async fn wait(&self, input: impl FnOnce(Waiting) -> Input) -> Result<Reply, ProposeError> {
        let in_flight = Arc::clone(&self.in_flight);
        let place = in_flight.acquire_owned().await.map_err(|_| ProposeError::Stopped)?;
        let (reply, answer) = oneshot::channel();
        let waiting = Waiting { reply, _place: place };
        self.input.send(input(waiting)).map_err(|_| ProposeError::Stopped)?;
        answer.await.map_err(|_| ProposeError::Stopped)?
    }

    /// Asks this node to let another one lead; [`RaftHandle::status`] says whether
    /// it came to that.
    pub fn transfer(&self, to: NodeId) {
        // A node that has stopped does not lead.
        let _ = self.input.send(Input::Transfer(to));
    }

    /// How far every node is. Empty when this one does not lead.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    pub async fn progress(&self) -> Result<Vec<Progress>, ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.input.send(Input::Progress { reply }).map_err(|_| ProposeError::Stopped)?;
        answer.await.map_err(|_| ProposeError::Stopped)
    }

    /// The last entry that a node is known to keep: of this one what is on disk, of
    /// another what it has acknowledged to this one and was committed.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    pub async fn kept(&self, node: NodeId) -> Result<Index, ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.input.send(Input::Kept { node, reply }).map_err(|_| ProposeError::Stopped)?;
        answer.await.map_err(|_| ProposeError::Stopped)
    }

    /// Returns once the state here holds everything that was acknowledged to
    /// anybody before the call; on any node, as long as it reaches the leader.
    ///
    /// # Errors
    /// [`ProposeError`] when this node cannot know.
    pub async fn read_barrier(&self) -> Result<(), ProposeError> {
        let (reply, answer) = oneshot::channel();
        self.input.send(Input::Read { reply }).map_err(|_| ProposeError::Stopped)?;
        answer.await.map_err(|_| ProposeError::Stopped)?
    }

    /// Hands the node messages of others. Waits while too many do.
    ///
    /// # Errors
    /// [`ProposeError::Stopped`].
    pub async fn step(&self, messages: Vec<Message>) -> Result<(), ProposeError> {
        let steps = Arc::clone(&self.steps);
        let place = steps.acquire_owned().await.map_err(|_| ProposeError::Stopped)?;
        let step = Input::Step { messages, _place: place };
        self.input.send(step).map_err(|_| ProposeError::Stopped)
    }

    /// Tells the node that what it sent to another may be lost.
    pub fn unreachable(&self, node: NodeId) {
        // A node that has stopped need not know.
        let _ = self.input.send(Input::Unreachable(node));
    }

    /// The state as of the last applied entry. Don't hold it across an await or
    /// for long: the node waits.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        // A panic while applying stops the node; what readers see is still whole.
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Where the node stands, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.status.clone()
    }

    /// Asks the node to stop and waits until it has.
    pub async fn stop(&self) {
        // Already stopped when nobody receives.
        let _ = self.input.send(Input::Stop);
        let mut status = self.status.clone();
        while status.changed().await.is_ok() {}
    }
}
