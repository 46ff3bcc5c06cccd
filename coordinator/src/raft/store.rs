//! The Raft log on disk, in raft-engine: entries, the hard state, and which
//! snapshot stands for what came before them.

use std::{
    collections::VecDeque,
    path::{Path, PathBuf},
};

use baton_state::Index;
use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
};
use raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize};
use serde::{Deserialize, Serialize};

use super::{RaftError, verify::verify};

/// Files of the log beyond which those that were given up are removed.
const FILES: u64 = 4;
/// raft-engine keeps many groups; Baton has one.
const GROUP: u64 = 1;
const NODE_ID: &[u8] = b"node_id";
const HARD_STATE: &[u8] = b"hard_state";
const CONF_STATE: &[u8] = b"conf_state";
const SNAPSHOT: &[u8] = b"snapshot";

struct EntryCodec;

impl MessageExt for EntryCodec {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// Which snapshot stands for the entries that are gone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotRecord {
    /// The last entry it contains.
    pub index: Index,
    /// That entry's term.
    pub term: u64,
    /// BLAKE3 of the file.
    pub blake3: [u8; 32],
}

/// The log of this node.
pub(super) struct Store {
    dir: PathBuf,
    engine: Engine,
    hard_state: HardState,
    conf_state: ConfState,
    snapshot: Option<SnapshotRecord>,
    /// Entries that were written and not yet applied, so that applying them
    /// needs no read.
    recent: VecDeque<Entry>,
}

impl Store {
    /// Opens the log in `dir`, or makes one for a group of this node alone.
    pub(super) fn open(dir: &Path, node_id: u64, file_bytes: u64) -> Result<Self, RaftError> {
        let log_dir = dir.join("log");
        verify(&log_dir)?;
        let config = Config {
            dir: log_dir.to_string_lossy().into_owned(),
            target_file_size: ReadableSize(file_bytes),
            purge_threshold: ReadableSize(file_bytes * FILES),
            // No checksum covers the byte that says whether a record is compressed.
            batch_compression_threshold: ReadableSize(0),
            // A page that was never written must not have an older file's records.
            enable_log_recycle: false,
            recovery_threads: 2,
            ..Config::default()
        };
        let failed = |source| RaftError::Log { dir: log_dir.clone(), source };
        let engine = Engine::open(config).map_err(failed)?;
        let damaged = |what: &str| RaftError::DamagedLog {
            dir: log_dir.clone(),
            detail: format!("no readable {what}"),
        };
        let snapshot = engine.get(GROUP, SNAPSHOT).map(|bytes| rmp_serde::from_slice(&bytes));
        let found = engine.get(GROUP, NODE_ID).map(<[u8; 8]>::try_from);
        let mut store = Self {
            dir: log_dir.clone(),
            hard_state: engine.get_message(GROUP, HARD_STATE).map_err(failed)?.unwrap_or_default(),
            conf_state: engine.get_message(GROUP, CONF_STATE).map_err(failed)?.unwrap_or_default(),
            snapshot: snapshot.transpose().map_err(|_| damaged("snapshot record"))?,
            engine,
            recent: VecDeque::new(),
        };
        match found.transpose().map_err(|_| damaged("node id"))?.map(u64::from_le_bytes) {
            Some(found) if found != node_id => {
                return Err(RaftError::ForeignFolder {
                    dir: dir.to_owned(),
                    found,
                    expected: node_id,
                });
            }
            Some(_) => {}
            None if store.engine.is_empty() => store.initialise(node_id)?,
            None => return Err(damaged("node id")),
        }
        if store.conf_state.voters.is_empty() {
            return Err(damaged("list of members"));
        }
        let first = store.engine.first_index(GROUP);
        if first.is_some_and(|first| first > store.base().0 + 1) {
            return Err(damaged("snapshot record"));
        }
        store.reaches(store.hard_state.commit)?;
        if store.hard_state.term < store.term(store.last_index()?)? {
            return Err(damaged("term"));
        }
        Ok(store)
    }

    /// Refuses a log that ends before an entry which is known to have been committed.
    pub(super) fn reaches(&self, known: Index) -> Result<(), RaftError> {
        let last = self.last_index()?;
        if last < known {
            return Err(RaftError::LogIncomplete { dir: self.dir.clone(), last, known });
        }
        Ok(())
    }

    fn initialise(&mut self, node_id: u64) -> Result<(), RaftError> {
        self.conf_state = ConfState::from((vec![node_id], vec![]));
        let mut batch = LogBatch::default();
        self.put(&mut batch, NODE_ID, node_id.to_le_bytes().to_vec())?;
        let conf_state = self.encode(&self.conf_state)?;
        self.put(&mut batch, CONF_STATE, conf_state)?;
        self.write(&mut batch, true)
    }

    /// The snapshot to start from.
    pub(super) fn snapshot_record(&self) -> Option<&SnapshotRecord> {
        self.snapshot.as_ref()
    }

    /// Who votes.
    pub(super) fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// Writes what a ready asks to be persisted, in one batch.
    pub(super) fn append(
        &mut self,
        entries: Vec<Entry>,
        hard_state: Option<&HardState>,
        sync: bool,
    ) -> Result<(), RaftError> {
        let mut batch = LogBatch::default();
        if let Some(first) = entries.first() {
            let first = first.index;
            batch.add_entries::<EntryCodec>(GROUP, &entries).map_err(|e| self.failed(e))?;
            while self.recent.back().is_some_and(|last| last.index >= first) {
                self.recent.pop_back();
            }
            self.recent.extend(entries);
        }
        if let Some(hard_state) = hard_state {
            self.hard_state = hard_state.clone();
            let bytes = self.encode(hard_state)?;
            self.put(&mut batch, HARD_STATE, bytes)?;
        }
        if batch.is_empty() { Ok(()) } else { self.write(&mut batch, sync) }
    }

    /// Entries up to here will not be read again soon.
    pub(super) fn applied(&mut self, index: Index) {
        while self.recent.front().is_some_and(|first| first.index <= index) {
            self.recent.pop_front();
        }
    }

    /// From now on `record` stands for every entry up to its index; one write, so
    /// that the entries go with it or not at all.
    pub(super) fn compact(&mut self, record: SnapshotRecord) -> Result<(), RaftError> {
        let mut batch = LogBatch::default();
        #[expect(clippy::expect_used, reason = "two numbers and a hash can be encoded")]
        let bytes = rmp_serde::to_vec_named(&record).expect("a record can be encoded");
        self.put(&mut batch, SNAPSHOT, bytes)?;
        // The commit index may lag behind on disk, and must not lag behind the snapshot.
        self.hard_state.commit = self.hard_state.commit.max(record.index);
        let hard_state = self.encode(&self.hard_state)?;
        self.put(&mut batch, HARD_STATE, hard_state)?;
        batch.add_command(GROUP, Command::Compact { index: record.index + 1 });
        self.write(&mut batch, true)?;
        self.snapshot = Some(record);
        Ok(())
    }

    /// Removes files that hold nothing but entries that are gone.
    pub(super) fn purge(&mut self) -> Result<(), RaftError> {
        self.engine.purge_expired_files().map_err(|e| self.failed(e))?;
        Ok(())
    }

    /// Puts everything on disk. Then the last record holds nothing that anybody
    /// was told, and damage to any other is noticed.
    pub(super) fn close(&mut self) -> Result<(), RaftError> {
        let hard_state = self.hard_state.clone();
        self.append(Vec::new(), Some(&hard_state), true)
    }

    fn put(&self, batch: &mut LogBatch, key: &[u8], value: Vec<u8>) -> Result<(), RaftError> {
        batch.put(GROUP, key.to_vec(), value).map_err(|e| self.failed(e))
    }

    fn write(&self, batch: &mut LogBatch, sync: bool) -> Result<(), RaftError> {
        self.engine.write(batch, sync).map_err(|e| self.failed(e))?;
        Ok(())
    }

    fn encode(&self, message: &impl protobuf::Message) -> Result<Vec<u8>, RaftError> {
        message.write_to_bytes().map_err(|e| self.failed(e.into()))
    }

    fn failed(&self, source: raft_engine::Error) -> RaftError {
        RaftError::Log { dir: self.dir.clone(), source }
    }

    /// The entry before the first one: the snapshot's.
    fn base(&self) -> (Index, u64) {
        self.snapshot.as_ref().map_or((0, 0), |record| (record.index, record.term))
    }
}

fn unavailable(error: raft_engine::Error) -> raft::Error {
    raft::Error::Store(StorageError::Other(Box::new(error)))
}

impl Storage for Store {
    fn initial_state(&self) -> raft::Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.conf_state.clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _context: GetEntriesContext,
    ) -> raft::Result<Vec<Entry>> {
        if low < self.first_index()? {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        let max_size = max_size.into();
        let mut entries = Vec::new();
        if self.recent.front().is_some_and(|first| first.index <= low) {
            let skipped = self.recent.iter().skip_while(|entry| entry.index < low);
            entries.extend(skipped.take_while(|entry| entry.index < high).cloned());
            raft::util::limit_size(&mut entries, max_size);
        } else {
            let max_size = max_size.map(|size| usize::try_from(size).unwrap_or(usize::MAX));
            self.engine
                .fetch_entries_to::<EntryCodec>(GROUP, low, high, max_size, &mut entries)
                .map_err(unavailable)?;
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        let (base, base_term) = self.base();
        if index == base {
            return Ok(base_term);
        }
        if index < base {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if let Some(front) = self.recent.front()
            && index >= front.index
            && let Some(entry) =
                usize::try_from(index - front.index).ok().and_then(|at| self.recent.get(at))
        {
            return Ok(entry.term);
        }
        let entry = self.engine.get_entry::<EntryCodec>(GROUP, index).map_err(unavailable)?;
        entry.map(|entry| entry.term).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.base().0 + 1)
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.engine.last_index(GROUP).unwrap_or(0).max(self.base().0))
    }

    fn snapshot(&self, _request_index: u64, _to: u64) -> raft::Result<Snapshot> {
        // Asked for by the leader of a group with followers that are too far behind.
        Err(raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable))
    }
}
