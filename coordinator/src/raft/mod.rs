//! Drives raft-rs: one thread owns the node, its log on disk and the state.
//!
//! ```text
//! propose ─► channel ─► driver: batch ─► log (one fsync) ─► State::apply ─► observers, reply
//!                                  └► Transport ─► other nodes ─► step ─► channel
//! ```
//!
//! A caller's proposal is answered when its entry is on the disks of a majority and
//! applied here. What cannot be written to disk stops the node: it never
//! acknowledges what it may forget.

mod applying;
mod callers;
mod driver;
pub mod engine;
mod fail_stop;
mod flushed;
mod handle;
mod node;
mod receiving;
mod restoring;
mod snapshots;
mod snapshotting;
mod store;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod verify;

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use baton_state::{Command, Event, Index, NodeId, State};
use futures::future::BoxFuture;
use raft::eraftpb::Message;
use tokio::runtime::Handle;

pub(crate) use self::restoring::restore;
pub use self::{
    driver::{Driver, TICK},
    handle::{Change, Progress, ProposeError, RaftHandle, Status},
};
use self::{
    engine::{Engine, EngineError},
    store::Store,
};
use crate::{environment::Environment, errors::REPAIR};

/// How a node is set up.
pub struct Options {
    /// This node's id in the group, at least 1.
    pub node_id: u64,
    /// Folder for the log and the snapshots.
    pub dir: PathBuf,
    /// Entries between snapshots.
    pub snapshot_every: u64,
    /// What to make of an empty log.
    pub beginning: Beginning,
    /// Finished work, kept beside the state; none without a history.
    pub history: Option<Arc<dyn HistoryStore>>,
    /// Told of what happened, on the node's own thread and in order; after a
    /// restart also of what happened since the last snapshot, again.
    pub observers: Vec<Arc<dyn Observer>>,
    /// Takes messages to other nodes.
    pub transport: Arc<dyn Transport>,
    /// Time, randomness and threads.
    pub environment: Environment,
    /// Where tasks run that work for the node.
    pub runtime: Handle,
}

/// What to make of an empty log.
pub enum Beginning {
    /// Found a cluster of this node alone, with this command.
    Found(Box<Command>),
    /// Wait for the other members to send theirs.
    Join,
    /// It was not empty before: refuse it, since the node has forgotten its votes.
    Restart,
}

/// Somebody who is told what happened.
pub trait Observer: Send + Sync {
    /// Everything up to `through` is applied to `state`; these are its effects.
    /// Must be quick: the node waits.
    fn applied(&self, through: Index, state: &State, events: &[Event]);

    /// The state is that of a snapshot, of this node at its start and of another one
    /// later: what led to it is not told. Must be quick.
    fn installed(&self, _state: &State) {}
}

/// What is made from the log and goes with the state: finished work.
pub trait HistoryStore: Send + Sync {
    /// The last entry whose events are in it.
    fn position(&self) -> Index;

    /// Returns when everything up to an index is on disk; only then is the log
    /// before it given up.
    ///
    /// # Errors
    /// When that is not to be had now; it is tried again later.
    fn secure(&self, through: Index) -> BoxFuture<'_, io::Result<()>>;

    /// Puts a copy of another node's history in its place and gives the last entry
    /// whose events are in it. One that is older changes nothing.
    ///
    /// # Errors
    /// When nothing has changed.
    fn replace(&self, copy: PathBuf) -> BoxFuture<'_, io::Result<Index>>;
}

/// What takes messages to other nodes. Replies come back by [`RaftHandle::step`].
pub trait Transport: Send + Sync {
    /// Sends each message to the node that its `to` names. Never waits: what cannot
    /// be sent is dropped, since Raft repeats what was lost.
    fn send(&self, messages: Vec<Message>);

    /// Fetches a snapshot that another node has announced. Never waits.
    fn fetch(&self, fetch: Fetch);
}

/// A snapshot to fetch.
pub struct Fetch {
    /// Who has it.
    pub from: NodeId,
    /// Its last entry.
    pub index: Index,
    /// BLAKE3 of its state.
    pub state_blake3: [u8; 32],
    /// Folder for its parts: `state-INDEX` and `history-INDEX`. Whatever else is in
    /// it may be removed, except what an earlier try of the same snapshot left.
    pub into: PathBuf,
    /// To be called once: when both are whole and on disk, or with what failed.
    pub done: Box<dyn FnOnce(io::Result<()>) + Send>,
}

/// Why a node cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum RaftError {
    /// The log could not be read or written.
    #[error("the Raft log in {dir} failed: {source}; check the disk and its free space")]
    Log {
        /// Where it is.
        dir: PathBuf,
        /// What failed.
        source: EngineError,
    },
    /// The log lacks something that must be in it.
    #[error("the Raft log in {dir} is damaged: {detail}; {}", REPAIR)]
    DamagedLog {
        /// Where it is.
        dir: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The log is gone, and with it what this node has promised to others.
    #[error(
        "the Raft log in {dir} is gone: this node must not go on as the member that it was; \
         remove that member from the cluster (`baton cluster remove`), and let this node join \
         again with an empty data folder"
    )]
    LogMissing {
        /// Where it was.
        dir: PathBuf,
    },
    /// The log has lost entries that were committed: they were removed or damaged.
    #[error(
        "the Raft log in {dir} ends at entry {last}, but entry {known} was committed: \
         entries are missing; {}",
        REPAIR
    )]
    LogIncomplete {
        /// Where it is.
        dir: PathBuf,
        /// The last entry that is there.
        last: Index,
        /// The last entry of which the history, a snapshot or the log itself knows.
        known: Index,
    },
    /// The log ends before what this node has acknowledged: an old copy took its place.
    #[error(
        "the Raft log in {dir} ends at entry {last}, but this node had entry {known}: an old copy \
         of the data folder has taken its place, which must not go on as a member; remove the \
         member from the cluster (`baton cluster remove`), and let this node join again with an \
         empty data folder"
    )]
    LogRolledBack {
        /// Where it is.
        dir: PathBuf,
        /// The last entry that is there.
        last: Index,
        /// The last entry that the leader was told is there.
        known: Index,
    },
    /// The history lacks what the log was given up for: it was removed or damaged.
    #[error(
        "the history ends at entry {history}, but the Raft log in {dir} begins at entry {first}: \
         finished jobs between them are missing; {}",
        REPAIR
    )]
    HistoryIncomplete {
        /// Where the log is.
        dir: PathBuf,
        /// The last entry that the history has.
        history: Index,
        /// The first entry that the log still has.
        first: Index,
    },
    /// A snapshot could not be read or written.
    #[error("cannot {action} the snapshot {path}: {source}")]
    Snapshot {
        /// What was tried.
        action: &'static str,
        /// Which file.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// A snapshot's bytes are not those that were written.
    #[error("the snapshot {path} is damaged: {detail}; {}", REPAIR)]
    DamagedSnapshot {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// The folder belongs to another node.
    #[error("{dir} belongs to node {found}, not to node {expected}")]
    ForeignFolder {
        /// Which folder.
        dir: PathBuf,
        /// Whose it is.
        found: u64,
        /// Whose it should be.
        expected: u64,
    },
    /// raft-rs wants a snapshot that was not fetched.
    #[error("Raft asks for the snapshot at entry {index}, which was not fetched")]
    UnknownSnapshot {
        /// Its last entry.
        index: Index,
    },
    /// An entry holds a command of a version that this one does not know.
    #[error("entry {index} holds a command that this version of Baton does not know: {detail}")]
    UnknownCommand {
        /// Which entry.
        index: Index,
        /// What is wrong with it.
        detail: String,
    },
    /// raft-rs refused to go on.
    #[error("Raft failed: {0}")]
    Raft(#[from] raft::Error),
    /// A library gave up in the middle of something.
    #[error(
        "the Raft node has stopped at a fault of its own: {detail}; check the disk and start this \
         node again"
    )]
    Panicked {
        /// What it said.
        detail: String,
    },
    /// The folder or the thread could not be made.
    #[error("cannot set up {dir}: {source}")]
    Setup {
        /// Which folder.
        dir: PathBuf,
        /// What failed.
        source: io::Error,
    },
}

/// Starts a node on a thread of its own. It has applied everything in its log when
/// this returns, and if it is the only one that votes, it leads. A file of its log has
/// about `log_file_bytes`; those that are no longer needed are removed when there are
/// more than a few.
///
/// # Errors
/// [`RaftError`] when the folder cannot be used.
pub fn start(options: Options, log_file_bytes: u64) -> Result<RaftHandle, RaftError> {
    let dir = options.dir.clone();
    make_dir(&dir)?;
    let engine = engine::open(&dir.join("log"), log_file_bytes)?;
    let (handle, driver) = prepare(options, engine)?;
    driver.spawn().map_err(|source| RaftError::Setup { dir, source })?;
    Ok(handle)
}

/// As [`start`], of a node that is moved by hand, with its log in any engine.
///
/// # Errors
/// As [`start`].
pub fn prepare(
    options: Options,
    engine: Box<dyn Engine>,
) -> Result<(RaftHandle, Driver), RaftError> {
    make_dir(&options.dir)?;
    let snapshots = snapshots::Snapshots::open(&options.dir)?;
    let mut store = Store::new(engine, options.dir.join("log"), options.node_id)?;
    let history = options.history.as_deref();
    receiving::finish(&options.dir, &mut store, &snapshots, history)?;
    // Before anything is written or told to anybody, so that it is found again at
    // the next start.
    store.reaches(snapshots.newest()?)?;
    if let Some(history) = history.map(HistoryStore::position) {
        if history > store.received_history() {
            store.reaches(history)?;
        }
        let snapshot = store.snapshot_record().map_or(0, |record| record.index);
        if snapshot > history {
            let first = snapshot + 1;
            return Err(RaftError::HistoryIncomplete { dir: options.dir, history, first });
        }
    }
    let state = match store.snapshot_record() {
        Some(record) => snapshots.load(record)?,
        None => State::default(),
    };
    if store.is_blank() {
        match &options.beginning {
            Beginning::Found(command) => {
                store.found(node::founding_entry(options.node_id, command)?)?;
            }
            Beginning::Join => {}
            Beginning::Restart => return Err(RaftError::LogMissing { dir: options.dir }),
        }
    }
    Driver::begin(options, store, snapshots, state)
}

fn make_dir(dir: &Path) -> Result<(), RaftError> {
    std::fs::create_dir_all(dir).map_err(|source| RaftError::Setup { dir: dir.to_owned(), source })
}
