//! The node itself: takes inputs, and lets raft-rs turn them into readies, which
//! it persists, applies and answers. Owns no thread and reads no clock: whoever
//! drives it says when a tick has passed.

use std::{
    collections::BTreeMap,
    sync::{Arc, PoisonError, RwLock, mpsc},
};

use baton_state::{Command, Index, NodeId, Refusal, State};
use protobuf::Message as _;
use raft::{
    Config, LightReady, ProgressState, RawNode, SnapshotStatus, StateRole, Storage as _,
    eraftpb::{
        ConfChangeSingle, ConfChangeType, ConfChangeV2, Entry, EntryType, Message, MessageType,
    },
};
use tokio::{sync::watch, task::JoinHandle};
use tracing::{debug, info};

use super::{
    Options, RaftError,
    callers::Callers,
    handle::{Change, Input, Progress, ProposeError, Status, Waiting},
    receiving::Receiving,
    snapshots::Snapshots,
    store::Store,
};
use crate::environment::Random;

/// Ticks without a leader before an election; each node draws from this range anew.
const ELECTION_TICKS: std::ops::Range<usize> = 20..32;
/// Ticks between heartbeats.
const HEARTBEAT_TICKS: usize = 4;
/// Ticks between two announcements of a snapshot to a follower that needs it.
const ANNOUNCE_TICKS: u64 = 100;
/// Messages with entries that may be under way to one follower.
const IN_FLIGHT: usize = 64;

pub(super) struct Node {
    pub(super) raw: RawNode<Store>,
    pub(super) options: Options,
    pub(super) snapshots: Snapshots,
    pub(super) state: Arc<RwLock<State>>,
    /// Where tasks that work for the node put what they have done.
    pub(super) input: mpsc::Sender<Input>,
    pub(super) callers: Callers,
    pub(super) applied: Index,
    pub(super) applied_term: u64,
    pub(super) next_snapshot: Index,
    /// The task that writes a snapshot, while there is one.
    pub(super) snapshotting: Option<JoinHandle<()>>,
    /// The snapshot of another node that is being fetched.
    pub(super) receiving: Option<Receiving>,
    status: watch::Sender<Status>,
    ticks: u64,
    /// At which tick each other node was last heard. raft-rs forgets now and then.
    heard: BTreeMap<u64, u64>,
    /// The last committed entry that each other node has acknowledged to this one. It must
    /// have it for good, whoever leads by now.
    acknowledged: BTreeMap<u64, Index>,
    /// The term and the leader for which reads were asked.
    reads_of: (u64, u64),
    election: ElectionTimeout,
}

/// How long this node waits for a leader. raft-rs would draw it from the thread's
/// own randomness; here it comes from the environment, anew for each role and term.
struct ElectionTimeout {
    of: (u64, StateRole),
    ticks: usize,
}

impl ElectionTimeout {
    fn draw(of: (u64, StateRole), random: &dyn Random) -> Self {
        let range = (ELECTION_TICKS.end - ELECTION_TICKS.start) as u128;
        // Less than the range, which is a usize.
        let ticks = ELECTION_TICKS.start + (random.bits() % range) as usize;
        Self { of, ticks }
    }
}

impl Node {
    pub(super) fn new(
        options: Options,
        store: Store,
        snapshots: Snapshots,
        state: Arc<RwLock<State>>,
        input: mpsc::Sender<Input>,
        status: watch::Sender<Status>,
    ) -> Result<Self, RaftError> {
        let record = store.snapshot_record().cloned();
        let applied = record.as_ref().map_or(0, |record| record.index);
        let config = Config {
            id: options.node_id,
            election_tick: ELECTION_TICKS.start,
            min_election_tick: ELECTION_TICKS.start,
            max_election_tick: ELECTION_TICKS.end,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied,
            max_size_per_msg: 1024 * 1024,
            max_inflight_msgs: IN_FLIGHT,
            max_committed_size_per_ready: 16 * 1024 * 1024,
            check_quorum: true,
            pre_vote: true,
            ..Config::default()
        };
        // What raft-rs tells below this is for those who work on raft-rs.
        let drain = slog::LevelFilter::new(tracing_slog::TracingSlogDrain, slog::Level::Warning);
        let logger = slog::Logger::root(slog::IgnoreResult::new(drain), slog::o!());
        let raw = RawNode::new(&config, store, &logger)?;
        let next_snapshot = applied + options.snapshot_every;
        let random = &*options.environment.random;
        let callers = Callers::new(random.bits());
        let election = ElectionTimeout::draw((raw.raft.term, raw.raft.state), random);
        Ok(Self {
            raw,
            options,
            snapshots,
            state,
            input,
            callers,
            applied,
            applied_term: record.map_or(0, |record| record.term),
            next_snapshot,
            snapshotting: None,
            receiving: None,
            status,
            ticks: 0,
            heard: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            reads_of: (0, 0),
            election,
        })
    }

    /// Applies what the log has; a group of one need not wait for an election.
    pub(super) fn begin(&mut self) -> Result<(), RaftError> {
        if self.applied > 0 {
            self.tell_installed();
        }
        self.settle()?;
        if self.raw.store().conf_state().voters == [self.options.node_id] {
            self.raw.campaign()?;
        }
        self.settle()
    }

    /// Has everybody know the state that a snapshot brought.
    pub(super) fn tell_installed(&self) {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        for observer in &self.options.observers {
            observer.installed(&state);
        }
    }

    /// Takes one input; false when it asks to stop.
    pub(super) fn take(&mut self, input: Input) -> Result<bool, RaftError> {
        match input {
            Input::Propose { command, waiting } => self.propose(&command, waiting),
            Input::Change { change, command, waiting } => {
                self.change(change, command.as_deref(), waiting);
            }
            Input::Read { reply } => self.callers.wants_to_read(reply),
            Input::Transfer(to) => {
                if self.leading() {
                    info!(%to, "handing leadership over");
                    self.raw.transfer_leader(to.0);
                }
            }
            Input::Progress { reply } => {
                // Whoever asked may have gone.
                let _ = reply.send(self.progress());
            }
            Input::Kept { node, reply } => {
                // As above.
                let _ = reply.send(self.kept(node.0));
            }
            Input::Step { messages, _place } => {
                for message in messages {
                    self.step(message)?;
                }
            }
            Input::Unreachable(node) => self.raw.report_unreachable(node.0),
            Input::Snapshotted(result) => self.snapshotted(result)?,
            Input::Received(result) => self.received(result)?,
            Input::Stop => return Ok(false),
        }
        Ok(true)
    }

    /// Some time has passed.
    pub(super) fn tick(&mut self) {
        self.ticks += 1;
        let role = (self.raw.raft.term, self.raw.raft.state);
        if self.election.of != role {
            self.election = ElectionTimeout::draw(role, &*self.options.environment.random);
        }
        self.raw.raft.set_randomized_election_timeout(self.election.ticks);
        self.raw.tick();
        self.callers.expire(self.ticks);
        if self.ticks.is_multiple_of(ANNOUNCE_TICKS) {
            self.announce_snapshots();
        }
    }

    /// A follower that needs a snapshot hears of it once, and may have been unable
    /// to fetch it. It hears again, of the newest.
    fn announce_snapshots(&mut self) {
        let members = self.raw.raft.prs().iter();
        let waiting = members.filter(|(node, progress)| {
            progress.state == ProgressState::Snapshot && self.is_active(**node)
        });
        let waiting: Vec<u64> = waiting.map(|(node, _)| *node).collect();
        for node in waiting {
            self.raw.report_snapshot(node, SnapshotStatus::Failure);
        }
    }

    /// Does everything that follows from what was taken.
    pub(super) fn settle(&mut self) -> Result<(), RaftError> {
        if let Some(context) = self.callers.ask(self.ticks) {
            self.raw.read_index(context);
        }
        while self.raw.has_ready() {
            self.on_ready()?;
        }
        let reads_of = (self.raw.raft.term, self.raw.raft.leader_id);
        if reads_of != self.reads_of || reads_of.1 == raft::INVALID_ID {
            self.reads_of = reads_of;
            self.callers.fail_reads();
        }
        if self.raw.raft.state != StateRole::Leader {
            self.callers.fail_proposals();
        }
        self.note_acknowledged();
        self.start_snapshot_if_due();
        self.publish_status(None);
        Ok(())
    }

    fn propose(&mut self, command: &Command, waiting: Waiting) {
        let level = self.state.read().unwrap_or_else(PoisonError::into_inner).level();
        if command.level() > level {
            // A member that does not know it would have to stop.
            waiting.answer(Err(ProposeError::Refused(Refusal::TooNew(command.level()))));
            return;
        }
        let (id, context) = self.callers.new_id();
        if self.leading() && self.raw.propose(context, command.encode()).is_ok() {
            self.callers.proposed(id, waiting);
        } else {
            waiting.answer(Err(ProposeError::NotLeader));
        }
    }

    fn change(&mut self, change: Change, command: Option<&Command>, waiting: Waiting) {
        if !self.leading() {
            waiting.answer(Err(ProposeError::NotLeader));
            return;
        }
        // raft-rs would drop the change and keep the entry.
        if self.raw.raft.has_pending_conf() {
            waiting.answer(Err(ProposeError::Changing));
            return;
        }
        let (id, context) = self.callers.new_id();
        if self.raw.propose_conf_change(context, conf_change(change, command)).is_ok() {
            self.callers.proposed(id, waiting);
        } else {
            waiting.answer(Err(ProposeError::NotLeader));
        }
    }

    /// Whether a node has been heard within an election timeout.
    fn is_active(&self, node: u64) -> bool {
        let timeout = ELECTION_TICKS.start as u64;
        let heard = self.heard.get(&node).is_some_and(|tick| self.ticks - tick <= timeout);
        heard || node == self.options.node_id
    }

    fn step(&mut self, message: Message) -> Result<(), RaftError> {
        self.heard.insert(message.from, self.ticks);
        if message.get_msg_type() == MessageType::MsgSnapshot {
            self.receive(message);
            return Ok(());
        }
        // A heartbeat names no entry as committed that this node has not acknowledged.
        let last = self.raw.raft.raft_log.last_index();
        if message.get_msg_type() == MessageType::MsgHeartbeat && message.commit > last {
            let (dir, known) = (self.options.dir.clone(), message.commit);
            return Err(RaftError::LogRolledBack { dir, last, known });
        }
        match self.raw.step(message) {
            // From a node that was removed, or is not admitted yet here.
            Err(raft::Error::StepPeerNotFound | raft::Error::StepLocalMsg) => Ok(()),
            Err(raft::Error::ProposalDropped) => Ok(()),
            stepped => Ok(stepped?),
        }
    }

    /// This node leads, and its state holds everything of earlier terms.
    fn leading(&self) -> bool {
        self.raw.raft.state == StateRole::Leader && self.applied_term == self.raw.raft.term
    }

    fn kept(&self, node: u64) -> Index {
        if node == self.options.node_id {
            return self.raw.store().last_index().unwrap_or_default();
        }
        self.acknowledged.get(&node).copied().unwrap_or_default()
    }

    fn note_acknowledged(&mut self) {
        if self.raw.raft.state != StateRole::Leader {
            return;
        }
        let committed = self.raw.raft.raft_log.committed;
        for (node, progress) in self.raw.raft.prs().iter() {
            let kept = self.acknowledged.entry(*node).or_default();
            *kept = (*kept).max(progress.matched.min(committed));
        }
    }

    fn progress(&self) -> Vec<Progress> {
        if !self.leading() {
            return Vec::new();
        }
        let voters = &self.raw.store().conf_state().voters;
        let progress = self.raw.raft.prs().iter().map(|(node, progress)| Progress {
            node: NodeId(*node),
            voter: voters.contains(node),
            matched: progress.matched,
            active: self.is_active(*node),
        });
        progress.collect()
    }

    /// One ready: committed entries are on disk here already, so they may be
    /// applied before the new ones are written.
    fn on_ready(&mut self) -> Result<(), RaftError> {
        let mut ready = self.raw.ready();
        self.send(ready.take_messages());
        for read in ready.take_read_states() {
            self.callers.confirm(&read.request_ctx, read.index);
        }
        if !ready.snapshot().is_empty() {
            self.install(ready.snapshot())?;
        }
        self.apply(ready.take_committed_entries())?;
        let hard_state = ready.hs().cloned();
        let must_sync = ready.must_sync();
        let entries = ready.take_entries();
        self.raw.mut_store().append(entries, hard_state.as_ref(), must_sync)?;
        self.send(ready.take_persisted_messages());
        let mut light = self.raw.advance(ready);
        self.on_light_ready(&mut light)?;
        self.raw.advance_apply();
        self.callers.applied(self.applied);
        Ok(())
    }

    fn on_light_ready(&mut self, light: &mut LightReady) -> Result<(), RaftError> {
        if light.commit_index().is_some() {
            // Not synced: after a loss of power Raft finds the commit index again.
            // It stands in the log before anybody is told, so that damage to the
            // entries is not taken for a torn write (see verify.rs).
            let hard_state = self.raw.raft.hard_state();
            self.raw.mut_store().append(Vec::new(), Some(&hard_state), false)?;
        }
        self.send(light.take_messages());
        self.apply(light.take_committed_entries())
    }

    fn send(&self, messages: Vec<Message>) {
        if !messages.is_empty() {
            self.options.transport.send(messages);
        }
    }

    pub(super) fn publish_status(&self, failure: Option<String>) {
        let store = self.raw.store();
        let status = Status {
            node_id: self.options.node_id,
            leader_id: self.raw.raft.leader_id,
            leading: failure.is_none() && self.leading(),
            term: self.raw.raft.term,
            committed: self.raw.raft.raft_log.committed,
            applied: self.applied,
            first_index: store.first(),
            voters: sorted(&store.conf_state().voters),
            learners: sorted(&store.conf_state().learners),
            failure,
        };
        self.status.send_if_modified(|current| {
            let changed = *current != status;
            if changed && (current.leader_id, current.term) != (status.leader_id, status.term) {
                debug!(leader = status.leader_id, term = status.term, "the leader is");
            }
            *current = status;
            changed
        });
    }
}

/// raft-rs lists members in any order.
fn sorted(members: &[u64]) -> Vec<u64> {
    let mut members = members.to_vec();
    members.sort_unstable();
    members
}

fn conf_change(change: Change, command: Option<&Command>) -> ConfChangeV2 {
    let (kind, node) = match change {
        Change::AddLearner(node) => (ConfChangeType::AddLearnerNode, node),
        Change::Promote(node) => (ConfChangeType::AddNode, node),
        Change::Remove(node) => (ConfChangeType::RemoveNode, node),
    };
    let mut single = ConfChangeSingle::default();
    single.set_change_type(kind);
    single.node_id = node.0;
    let mut change = ConfChangeV2::default();
    change.set_changes(vec![single].into());
    change.set_context(command.map(Command::encode).unwrap_or_default().into());
    change
}

/// The first entry of a new cluster: its first member, who votes.
pub(super) fn founding_entry(node_id: u64, command: &Command) -> Result<Entry, RaftError> {
    let change = conf_change(Change::Promote(NodeId(node_id)), Some(command));
    let mut entry = Entry::default();
    entry.set_entry_type(EntryType::EntryConfChangeV2);
    entry.index = 1;
    entry.term = 1;
    let bytes = change.write_to_bytes().map_err(raft::Error::from)?;
    entry.set_data(bytes.into());
    Ok(entry)
}
