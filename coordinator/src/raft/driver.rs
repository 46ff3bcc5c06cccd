//! The node's thread: drains what waits into one batch, lets raft-rs turn it
//! into a ready, persists, applies, answers.

use std::{
    sync::{
        Arc, RwLock,
        mpsc::{self, RecvTimeoutError},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use baton_state::{Command, Event, Index, Refusal, Reply, State};
use raft::{
    Config, LightReady, RawNode, StateRole,
    eraftpb::{Entry, EntryType},
};
use tokio::{sync::watch, time::Instant};
use tracing::{debug, error, info, warn};

use super::{
    Options, RaftError,
    callers::{Callers, ReadSender},
    handle::{Input, ProposeError, RaftHandle, Status, Waiting},
    snapshots::Snapshots,
    store::{SnapshotRecord, Store},
};

/// The time between two ticks of Raft's clock.
const TICK: Duration = Duration::from_millis(100);
/// Ticks without a leader before an election.
const ELECTION_TICKS: usize = 10;
/// Ticks between heartbeats.
const HEARTBEAT_TICKS: usize = 2;
/// Inputs taken into one batch.
const BATCH: usize = 1024;
/// Entries applied under one lock.
const APPLY_BATCH: usize = 256;

/// Starts the node's thread and waits until it leads.
pub(super) fn spawn(
    options: Options,
    store: Store,
    snapshots: Snapshots,
    state: State,
) -> Result<RaftHandle, RaftError> {
    let dir = options.dir.clone();
    let (input, inputs) = mpsc::channel();
    let state = Arc::new(RwLock::new(state));
    let (status_sender, status) = watch::channel(Status::default());
    let handle = RaftHandle::new(input.clone(), Arc::clone(&state), status);
    let mut driver = Driver::new(options, store, snapshots, state, input, status_sender)?;
    driver.lead_alone()?;
    thread::Builder::new()
        .name("raft".to_owned())
        .spawn(move || driver.run(inputs))
        .map_err(|source| RaftError::Setup { dir, source })?;
    Ok(handle)
}

struct Driver {
    node: RawNode<Store>,
    options: Options,
    snapshots: Snapshots,
    state: Arc<RwLock<State>>,
    input: mpsc::Sender<Input>,
    status: watch::Sender<Status>,
    callers: Callers,
    applied: Index,
    applied_term: u64,
    snapshot_index: Index,
    next_snapshot: Index,
    /// The thread that writes a snapshot, while there is one.
    snapshotting: Option<JoinHandle<()>>,
}

impl Driver {
    fn new(
        options: Options,
        store: Store,
        snapshots: Snapshots,
        state: Arc<RwLock<State>>,
        input: mpsc::Sender<Input>,
        status: watch::Sender<Status>,
    ) -> Result<Self, RaftError> {
        let record = store.snapshot_record().cloned();
        let snapshot_index = record.as_ref().map_or(0, |record| record.index);
        let config = Config {
            id: options.node_id,
            election_tick: ELECTION_TICKS,
            heartbeat_tick: HEARTBEAT_TICKS,
            applied: snapshot_index,
            max_size_per_msg: 1024 * 1024,
            max_committed_size_per_ready: 16 * 1024 * 1024,
            check_quorum: true,
            pre_vote: true,
            ..Config::default()
        };
        // What raft-rs tells below this is for those who work on raft-rs.
        let drain = slog::LevelFilter::new(tracing_slog::TracingSlogDrain, slog::Level::Warning);
        let logger = slog::Logger::root(slog::IgnoreResult::new(drain), slog::o!());
        let node = RawNode::new(&config, store, &logger)?;
        let next_snapshot = snapshot_index + options.snapshot_every;
        let callers = Callers::new(options.environment.random.bits());
        Ok(Self {
            node,
            options,
            snapshots,
            state,
            input,
            status,
            callers,
            applied: snapshot_index,
            applied_term: record.map_or(0, |record| record.term),
            snapshot_index,
            next_snapshot,
            snapshotting: None,
        })
    }

    /// A group of one need not wait for an election.
    fn lead_alone(&mut self) -> Result<(), RaftError> {
        if self.node.store().conf_state().voters == [self.options.node_id] {
            self.node.campaign()?;
        }
        while self.node.has_ready() {
            self.on_ready()?;
        }
        self.publish_status(None);
        Ok(())
    }

    fn run(mut self, inputs: mpsc::Receiver<Input>) {
        match self.serve(&inputs).and_then(|()| self.node.mut_store().close()) {
            Ok(()) => info!("raft node stopped"),
            Err(failure) => {
                error!(%failure, "raft node failed and has stopped");
                self.publish_status(Some(failure.to_string()));
            }
        }
        // Nobody waits for an answer any more while the snapshot is written.
        drop(inputs);
        drop(self.callers);
        if let Some(thread) = self.snapshotting
            && thread.join().is_err()
        {
            error!("the snapshot thread panicked");
        }
    }

    fn serve(&mut self, inputs: &mpsc::Receiver<Input>) -> Result<(), RaftError> {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let wait = next_tick.saturating_duration_since(Instant::now());
            match inputs.recv_timeout(wait) {
                Ok(input) => {
                    let batch = std::iter::once(input).chain(inputs.try_iter()).take(BATCH);
                    for input in batch {
                        if !self.take(input)? {
                            return Ok(());
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            if Instant::now() >= next_tick {
                self.node.tick();
                next_tick = Instant::now() + TICK;
            }
            while self.node.has_ready() {
                self.on_ready()?;
            }
            self.fail_waiters_unless_leading();
            self.start_snapshot_if_due();
            self.publish_status(None);
        }
    }

    /// Takes one input; false when it asks to stop.
    fn take(&mut self, input: Input) -> Result<bool, RaftError> {
        match input {
            Input::Propose { command, waiting } => self.propose(&command, waiting),
            Input::Read { reply } => self.read(reply),
            Input::Step { messages, _place } => {
                for message in messages {
                    self.node.step(message)?;
                }
            }
            Input::Unreachable(node) => self.node.report_unreachable(node.0),
            Input::Snapshotted(result) => self.snapshotted(result)?,
            Input::Stop => return Ok(false),
        }
        Ok(true)
    }

    fn snapshotted(&mut self, result: Result<SnapshotRecord, RaftError>) -> Result<(), RaftError> {
        self.snapshotting = None;
        self.next_snapshot = self.applied + self.options.snapshot_every;
        let record = match result {
            Ok(record) => record,
            Err(error) => {
                // The log is kept whole instead.
                warn!(%error, "no snapshot; trying again later");
                return Ok(());
            }
        };
        let index = record.index;
        self.node.mut_store().compact(record)?;
        self.node.mut_store().purge()?;
        self.snapshot_index = index;
        self.next_snapshot = index + self.options.snapshot_every;
        if let Err(error) = self.snapshots.remove_others(index) {
            debug!(%error, "an old snapshot is left over");
        }
        Ok(())
    }

    fn propose(&mut self, command: &Command, waiting: Waiting) {
        let (id, context) = self.callers.new_id();
        if self.leading() && self.node.propose(context, command.encode()).is_ok() {
            self.callers.proposed(id, waiting);
        } else {
            waiting.answer(Err(ProposeError::NotLeader));
        }
    }

    fn read(&mut self, reply: ReadSender) {
        if !self.leading() {
            let _ = reply.send(Err(ProposeError::NotLeader));
            return;
        }
        let (id, context) = self.callers.new_id();
        self.callers.reads(id, reply);
        self.node.read_index(context);
    }

    /// This node leads, and its state holds everything of earlier terms.
    fn leading(&self) -> bool {
        self.node.raft.state == StateRole::Leader && self.applied_term == self.node.raft.term
    }

    /// One ready: committed entries are on disk here already, so they may be
    /// applied before the new ones are written.
    fn on_ready(&mut self) -> Result<(), RaftError> {
        let mut ready = self.node.ready();
        for read in ready.take_read_states() {
            self.callers.confirm(&read.request_ctx, read.index);
        }
        self.apply(ready.take_committed_entries())?;
        let hard_state = ready.hs().cloned();
        let must_sync = ready.must_sync();
        let entries = ready.take_entries();
        self.node.mut_store().append(entries, hard_state.as_ref(), must_sync)?;
        let mut light = self.node.advance(ready);
        self.on_light_ready(&mut light)?;
        self.node.advance_apply();
        self.callers.applied(self.applied);
        Ok(())
    }

    fn on_light_ready(&mut self, light: &mut LightReady) -> Result<(), RaftError> {
        if light.commit_index().is_some() {
            // Not synced: after a loss of power Raft finds the commit index again.
            // It stands in the log before anybody is told, so that damage to the
            // entries is not taken for a torn write (see verify.rs).
            let hard_state = self.node.raft.hard_state();
            self.node.mut_store().append(Vec::new(), Some(&hard_state), false)?;
        }
        self.apply(light.take_committed_entries())
    }

    fn apply(&mut self, entries: Vec<Entry>) -> Result<(), RaftError> {
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            self.apply_batch(entries.by_ref().take(APPLY_BATCH))?;
        }
        Ok(())
    }

    fn apply_batch(&mut self, entries: impl Iterator<Item = Entry>) -> Result<(), RaftError> {
        let mut events = Vec::new();
        let mut replies = Vec::new();
        {
            let state = Arc::clone(&self.state);
            let mut state = state.write().unwrap_or_else(std::sync::PoisonError::into_inner);
            for entry in entries {
                let reply = apply_entry(&mut state, &entry, &mut events)?;
                self.applied = entry.index;
                self.applied_term = entry.term;
                if let Some(reply) = reply
                    && let Some(waiting) = self.callers.proposer(&entry.context)
                {
                    replies.push((waiting, reply));
                }
            }
        }
        self.node.mut_store().applied(self.applied);
        {
            let state = self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner);
            for observer in &self.options.observers {
                observer.applied(self.applied, &state, &events);
            }
        }
        for (waiting, reply) in replies {
            waiting.answer(reply.map_err(ProposeError::Refused));
        }
        Ok(())
    }

    fn fail_waiters_unless_leading(&mut self) {
        if self.node.raft.state != StateRole::Leader {
            self.callers.leadership_lost();
        }
    }

    /// Writes a snapshot beside the work, on a thread of its own, and gives up
    /// the log before it once everything in it is safe elsewhere.
    fn start_snapshot_if_due(&mut self) {
        if self.snapshotting.is_some() || self.applied < self.next_snapshot {
            return;
        }
        let copy = self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner).clone();
        let term = self.applied_term;
        let snapshots = self.snapshots.clone();
        let safe_elsewhere = Arc::clone(&self.options.safe_elsewhere);
        let input = self.input.clone();
        let work = move || {
            let index = copy.applied();
            let result = match safe_elsewhere(index) {
                Ok(()) => snapshots.save(&copy, term),
                Err(source) => Err(RaftError::Snapshot {
                    action: "secure the history before",
                    path: format!("snapshot-{index}").into(),
                    source,
                }),
            };
            // The node may have stopped meanwhile.
            let _ = input.send(Input::Snapshotted(result));
        };
        match thread::Builder::new().name("raft-snapshot".to_owned()).spawn(work) {
            Ok(thread) => self.snapshotting = Some(thread),
            Err(error) => error!(%error, "cannot start the snapshot thread; trying again later"),
        }
    }

    fn publish_status(&self, failure: Option<String>) {
        let store = self.node.store();
        let status = Status {
            node_id: self.options.node_id,
            leader_id: self.node.raft.leader_id,
            leading: failure.is_none() && self.leading(),
            term: self.node.raft.term,
            committed: self.node.raft.raft_log.committed,
            applied: self.applied,
            first_index: self.snapshot_index + 1,
            voters: store.conf_state().voters.clone(),
            learners: store.conf_state().learners.clone(),
            failure,
        };
        self.status.send_if_modified(|current| {
            let changed = *current != status;
            *current = status;
            changed
        });
    }
}

/// Applies one entry; the outcome of its command, if it has one.
fn apply_entry(
    state: &mut State,
    entry: &Entry,
    events: &mut Vec<Event>,
) -> Result<Option<Result<Reply, Refusal>>, RaftError> {
    if entry.data.is_empty() || entry.get_entry_type() != EntryType::EntryNormal {
        state.skip(entry.index);
        return Ok(None);
    }
    let command = Command::decode(&entry.data).map_err(|error| RaftError::UnknownCommand {
        index: entry.index,
        detail: error.to_string(),
    })?;
    let (reply, new) = state.apply(entry.index, command);
    events.extend(new);
    Ok(Some(reply))
}
