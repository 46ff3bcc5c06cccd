//! A snapshot of another node: Raft's message only says that there is one. Its
//! parts are fetched first, and the message is handed to raft-rs when they are here.
//!
//! In the order of the steps, so that a crash between any two is made good by the
//! next start (see [`finish`]): the parts are whole in `incoming/`; the history is
//! replaced, and so is ahead of the log; the log notes that; the log begins after
//! the snapshot; the state's file gets its place; `incoming/` goes.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError},
};

use baton_state::{Index, NodeId, State};
use raft::eraftpb::{Message, Snapshot};
use tracing::{debug, info, warn};

use super::{
    Fetch, HistoryStore, RaftError,
    handle::Input,
    node::Node,
    snapshots::{self, Snapshots},
    store::{SnapshotRecord, Store},
};
use crate::environment::{Blocking, blocking};

/// A snapshot that is being fetched.
pub(super) struct Receiving {
    record: SnapshotRecord,
    /// The newest message that announced it.
    message: Message,
    /// The state, when it is here.
    state: Option<State>,
}

/// What was fetched.
pub(super) struct Received {
    state: State,
    /// How far the history reaches that came with it.
    history: Option<Index>,
}

impl Node {
    /// Another node has announced a snapshot.
    pub(super) fn receive(&mut self, message: Message) {
        let record = match SnapshotRecord::from_message(message.get_snapshot()) {
            Ok(record) => record,
            Err(error) => {
                warn!(%error, from = message.from, "an announced snapshot cannot be read");
                return;
            }
        };
        if record.index <= self.raw.raft.raft_log.committed {
            // raft-rs answers that it is not needed.
            if let Err(error) = self.raw.step(message) {
                debug!(%error, "not stepped");
            }
            return;
        }
        if let Some(receiving) = &mut self.receiving {
            // One at a time: what comes after it is announced again.
            if receiving.record == record {
                receiving.message = message;
            }
            return;
        }
        info!(from = message.from, index = record.index, "fetching a snapshot");
        let input = self.input.clone();
        let incoming = incoming(&self.options.dir);
        let history = self.options.history.clone();
        let (index, blake3) = (record.index, record.blake3);
        let into = incoming.clone();
        let (runtime, threads) =
            (self.options.runtime.clone(), Arc::clone(&self.options.environment.blocking));
        let done = Box::new(move |fetched: io::Result<()>| {
            // Loading takes as long as the disk does, and the caller may not wait.
            runtime.spawn(async move {
                let loaded = match fetched {
                    Ok(()) => load(into, index, blake3, history, &*threads).await,
                    Err(error) => Err(error),
                };
                // The node may have stopped meanwhile.
                let _ = input.send(Input::Received(loaded.map(Box::new)));
            });
        });
        let from = NodeId(message.from);
        let fetch = Fetch { from, index, state_blake3: blake3, into: incoming, done };
        self.receiving = Some(Receiving { record, message, state: None });
        self.options.transport.fetch(fetch);
    }

    /// The snapshot is here, or cannot be had.
    pub(super) fn received(&mut self, result: io::Result<Box<Received>>) -> Result<(), RaftError> {
        let Some(mut receiving) = self.receiving.take() else { return Ok(()) };
        let received = match result {
            Ok(received) => received,
            Err(error) => {
                // It is announced again.
                warn!(%error, index = receiving.record.index, "no snapshot fetched");
                return Ok(());
            }
        };
        if let Some(history) = received.history {
            self.raw.mut_store().set_received_history(history)?;
        }
        receiving.state = Some(received.state);
        let message = receiving.message.clone();
        self.receiving = Some(receiving);
        if let Err(error) = self.raw.step(message) {
            debug!(%error, "the snapshot is not wanted any more");
        }
        if self.raw.snap().is_none() {
            self.receiving = None;
            self.clear_incoming();
        }
        Ok(())
    }

    /// raft-rs has taken the snapshot.
    pub(super) fn install(&mut self, snapshot: &Snapshot) -> Result<(), RaftError> {
        let index = snapshot.get_metadata().index;
        let received = self.receiving.take().filter(|receiving| receiving.record.index == index);
        let Some((record, state)) = received.and_then(|r| Some((r.record, r.state?))) else {
            return Err(RaftError::UnknownSnapshot { index });
        };
        let hard_state = self.raw.raft.hard_state();
        let term = record.term;
        self.raw.mut_store().install(record, &hard_state)?;
        adopt(&self.options.dir, &self.snapshots, index)?;
        self.clear_incoming();
        self.applied = index;
        self.applied_term = term;
        self.next_snapshot = index + self.options.snapshot_every;
        *self.state.write().unwrap_or_else(PoisonError::into_inner) = state;
        self.tell_installed();
        info!(index, "a snapshot of another node has taken the state's place");
        Ok(())
    }

    fn clear_incoming(&self) {
        let incoming = incoming(&self.options.dir);
        if let Err(error) = fs::remove_dir_all(&incoming)
            && error.kind() != io::ErrorKind::NotFound
        {
            debug!(%error, "a fetched snapshot is left over");
        }
    }
}

fn incoming(dir: &Path) -> PathBuf {
    dir.join("incoming")
}

async fn load(
    incoming: PathBuf,
    index: Index,
    blake3: [u8; 32],
    history: Option<Arc<dyn HistoryStore>>,
    threads: &dyn Blocking,
) -> io::Result<Received> {
    let path = incoming.join(format!("state-{index:020}"));
    let read = blocking(threads, move || snapshots::read(&path, index, &blake3)).await;
    let state = read.map_err(io::Error::other)?.map_err(io::Error::other)?;
    let copy = incoming.join(format!("history-{index:020}"));
    let history = match history {
        Some(history) => Some(history.replace(copy).await?),
        None => None,
    };
    if history.is_some_and(|history| history < index) {
        return Err(io::Error::other("the history that came with it is older than the state"));
    }
    Ok(Received { state, history })
}

/// Gives a fetched state the place of a snapshot.
fn adopt(dir: &Path, snapshots: &Snapshots, index: Index) -> Result<(), RaftError> {
    let fetched = incoming(dir).join(format!("state-{index:020}"));
    snapshots.adopt(&fetched, index)
}

/// Finishes what a crash has cut short, at the start of the node.
pub(super) fn finish(
    dir: &Path,
    store: &mut Store,
    snapshots: &Snapshots,
    history: Option<&dyn HistoryStore>,
) -> Result<(), RaftError> {
    let incoming = incoming(dir);
    let entries = match fs::read_dir(&incoming) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(RaftError::Setup { dir: incoming, source }),
    };
    let is_history = |name: &str| name.starts_with("history-") && !name.ends_with(".part");
    let mut names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    // The history may have been replaced, or not: either way it says nothing about
    // this log any more.
    if let Some(history) = history
        && names.any(|name| is_history(&name))
    {
        store.set_received_history(history.position())?;
    }
    if let Some(record) = store.snapshot_record()
        && !snapshots.has(record.index)
        && incoming.join(format!("state-{:020}", record.index)).exists()
    {
        let index = record.index;
        adopt(dir, snapshots, index)?;
    }
    Ok(())
}
