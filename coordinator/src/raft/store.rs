//! The Raft log on disk, in raft-engine: entries, the hard state, and which
//! snapshot stands for what came before them.
//!
//! Some entries before the snapshot stay for a while, so that a follower that lags
//! a little need not fetch it.

use std::{
    cell::Cell,
    collections::VecDeque,
    path::{Path, PathBuf},
};

use baton_state::Index;
use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
};
use raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{RaftError, verify::verify};

/// Files of the log beyond which those that were given up are removed.
const FILES: u64 = 4;
/// raft-engine keeps groups of keys and entries apart. The keys are in this one, the
/// entries in one of their own: another one each time a snapshot takes their place.
const META: u64 = 1;
const FIRST_ENTRIES: u64 = 2;
const NODE_ID: &[u8] = b"node_id";
const HARD_STATE: &[u8] = b"hard_state";
const SNAPSHOT: &[u8] = b"snapshot";
const TRUNCATED: &[u8] = b"truncated";
const ENTRIES: &[u8] = b"entries";
const RECEIVED_HISTORY: &[u8] = b"received_history";

struct EntryCodec;

impl MessageExt for EntryCodec {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

/// A snapshot that stands for every entry up to its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotRecord {
    /// The last entry it contains.
    pub index: Index,
    /// That entry's term.
    pub term: u64,
    /// BLAKE3 of the file.
    pub blake3: [u8; 32],
    /// Who voted as of that entry.
    pub voters: Vec<u64>,
    /// Who only listened.
    pub learners: Vec<u64>,
}

impl SnapshotRecord {
    /// The record as it travels in Raft's own message.
    pub(super) fn to_message(&self) -> Result<Snapshot, rmp_serde::encode::Error> {
        let mut snapshot = Snapshot::default();
        snapshot.set_data(rmp_serde::to_vec_named(self)?.into());
        let metadata = snapshot.mut_metadata();
        metadata.index = self.index;
        metadata.term = self.term;
        metadata.set_conf_state(self.conf_state());
        Ok(snapshot)
    }

    /// Reads what [`SnapshotRecord::to_message`] made.
    pub(super) fn from_message(snapshot: &Snapshot) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(snapshot.get_data())
    }

    fn conf_state(&self) -> ConfState {
        ConfState::from((self.voters.clone(), self.learners.clone()))
    }
}

/// The entry before the first one that is kept.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
struct Truncated {
    index: Index,
    term: u64,
}

/// The log of this node.
pub(super) struct Store {
    dir: PathBuf,
    engine: Engine,
    hard_state: HardState,
    /// Who is a member as of the last entry that was applied.
    conf_state: ConfState,
    snapshot: Option<SnapshotRecord>,
    truncated: Truncated,
    /// The group that has the entries.
    entries: u64,
    /// How far a history that came from another node reaches.
    received_history: Index,
    /// Entries that were written and not yet applied, so that applying them
    /// needs no read.
    recent: VecDeque<Entry>,
    /// A follower needs a newer snapshot than there is.
    wanted: Cell<bool>,
}

impl Store {
    /// Opens the log in `dir`, or makes an empty one.
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
        let read = Keys { dir: &log_dir, engine: &engine };
        let found = read.number(NODE_ID, "node id")?;
        if found.is_none() && !engine.is_empty() {
            return Err(read.damaged("node id"));
        }
        let snapshot: Option<SnapshotRecord> = read.record(SNAPSHOT, "snapshot record")?;
        let mut store = Self {
            dir: log_dir.clone(),
            hard_state: engine.get_message(META, HARD_STATE).map_err(failed)?.unwrap_or_default(),
            conf_state: snapshot.as_ref().map(SnapshotRecord::conf_state).unwrap_or_default(),
            snapshot,
            truncated: read.record(TRUNCATED, "start")?.unwrap_or_default(),
            entries: read.number(ENTRIES, "group of entries")?.unwrap_or(FIRST_ENTRIES),
            received_history: read.number(RECEIVED_HISTORY, "end of the history")?.unwrap_or(0),
            engine,
            recent: VecDeque::new(),
            wanted: Cell::new(false),
        };
        match found {
            Some(found) if found != node_id => {
                return Err(RaftError::ForeignFolder {
                    dir: dir.to_owned(),
                    found,
                    expected: node_id,
                });
            }
            Some(_) => {}
            None => store.initialise(node_id)?,
        }
        store.check()?;
        Ok(store)
    }

    /// Refuses a log in which something is missing that must be there.
    fn check(&self) -> Result<(), RaftError> {
        let damaged = |what: &str| RaftError::DamagedLog {
            dir: self.dir.clone(),
            detail: format!("no readable {what}"),
        };
        let first = self.engine.first_index(self.entries);
        if first.is_some_and(|first| first > self.truncated.index + 1) {
            return Err(damaged("start"));
        }
        if self.truncated.index > self.snapshot.as_ref().map_or(0, |record| record.index) {
            return Err(damaged("snapshot record"));
        }
        self.reaches(self.hard_state.commit)?;
        if self.hard_state.term < self.term(self.last_index()?)? {
            return Err(damaged("term"));
        }
        Ok(())
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
        let mut batch = LogBatch::default();
        self.put(&mut batch, NODE_ID, node_id.to_le_bytes().to_vec())?;
        self.write(&mut batch, true)
    }

    /// Nothing was ever written to this log, and no vote was given.
    pub(super) fn is_blank(&self) -> bool {
        self.hard_state == HardState::default()
            && self.snapshot.is_none()
            && self.engine.last_index(self.entries).is_none()
    }

    /// Begins the log of a new cluster with an entry that is committed already.
    pub(super) fn found(&mut self, entry: Entry) -> Result<(), RaftError> {
        let hard_state =
            HardState { term: entry.term, commit: entry.index, ..HardState::default() };
        self.append(vec![entry], Some(&hard_state), true)
    }

    /// The snapshot to start from.
    pub(super) fn snapshot_record(&self) -> Option<&SnapshotRecord> {
        self.snapshot.as_ref()
    }

    /// Who is a member as of the last entry that was applied.
    pub(super) fn conf_state(&self) -> &ConfState {
        &self.conf_state
    }

    /// The members are others now. It stands in the log, so it need not be written.
    pub(super) fn set_conf_state(&mut self, conf_state: ConfState) {
        self.conf_state = conf_state;
    }

    /// How far a history that came from another node reaches: events up to there
    /// say nothing about this log.
    pub(super) fn received_history(&self) -> Index {
        self.received_history
    }

    /// Notes that the history came from another node and reaches this far.
    pub(super) fn set_received_history(&mut self, through: Index) -> Result<(), RaftError> {
        let mut batch = LogBatch::default();
        self.put(&mut batch, RECEIVED_HISTORY, through.to_le_bytes().to_vec())?;
        self.write(&mut batch, true)?;
        self.received_history = through;
        Ok(())
    }

    /// The first entry that is kept.
    pub(super) fn first(&self) -> Index {
        self.truncated.index + 1
    }

    /// Whether a follower has needed a newer snapshot since the last call.
    pub(super) fn take_wanted(&self) -> bool {
        self.wanted.take()
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
            batch.add_entries::<EntryCodec>(self.entries, &entries).map_err(|e| self.failed(e))?;
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

    /// From now on `record` stands for every entry up to its index. All but the last
    /// `keep` of them are given up; one write, so that they go with it or not at all.
    pub(super) fn compact(&mut self, record: SnapshotRecord, keep: u64) -> Result<(), RaftError> {
        let mut batch = LogBatch::default();
        self.put_record(&mut batch, SNAPSHOT, &record)?;
        // The commit index may lag behind on disk, and must not lag behind the snapshot.
        self.hard_state.commit = self.hard_state.commit.max(record.index);
        let hard_state = self.encode(&self.hard_state)?;
        self.put(&mut batch, HARD_STATE, hard_state)?;
        let last_gone = record.index.saturating_sub(keep);
        let mut truncated = self.truncated;
        if last_gone > truncated.index {
            truncated = Truncated { index: last_gone, term: self.term(last_gone)? };
            self.put_record(&mut batch, TRUNCATED, &truncated)?;
            batch.add_command(self.entries, Command::Compact { index: last_gone + 1 });
        }
        self.write(&mut batch, true)?;
        self.truncated = truncated;
        self.snapshot = Some(record);
        Ok(())
    }

    /// Another node's snapshot takes the place of the whole log.
    pub(super) fn install(
        &mut self,
        record: SnapshotRecord,
        hard_state: &HardState,
    ) -> Result<(), RaftError> {
        let mut batch = LogBatch::default();
        self.put_record(&mut batch, SNAPSHOT, &record)?;
        let truncated = Truncated { index: record.index, term: record.term };
        self.put_record(&mut batch, TRUNCATED, &truncated)?;
        let bytes = self.encode(hard_state)?;
        self.put(&mut batch, HARD_STATE, bytes)?;
        let entries = self.entries + 1;
        self.put(&mut batch, ENTRIES, entries.to_le_bytes().to_vec())?;
        batch.add_command(self.entries, Command::Clean);
        self.write(&mut batch, true)?;
        self.conf_state = record.conf_state();
        self.snapshot = Some(record);
        self.truncated = truncated;
        self.hard_state = hard_state.clone();
        self.entries = entries;
        self.recent.clear();
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
        batch.put(META, key.to_vec(), value).map_err(|e| self.failed(e))
    }

    fn put_record(
        &self,
        batch: &mut LogBatch,
        key: &[u8],
        record: &impl Serialize,
    ) -> Result<(), RaftError> {
        #[expect(clippy::expect_used, reason = "numbers and a hash can be encoded")]
        let bytes = rmp_serde::to_vec_named(record).expect("a record can be encoded");
        self.put(batch, key, bytes)
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
}

/// The keys of a log that is being opened.
struct Keys<'a> {
    dir: &'a Path,
    engine: &'a Engine,
}

impl Keys<'_> {
    fn number(&self, key: &[u8], what: &str) -> Result<Option<u64>, RaftError> {
        let found = self.engine.get(META, key).map(<[u8; 8]>::try_from);
        let found = found.transpose().map_err(|_| self.damaged(what))?;
        Ok(found.map(u64::from_le_bytes))
    }

    fn record<T: DeserializeOwned>(&self, key: &[u8], what: &str) -> Result<Option<T>, RaftError> {
        let found = self.engine.get(META, key).map(|bytes| rmp_serde::from_slice(&bytes));
        found.transpose().map_err(|_| self.damaged(what))
    }

    fn damaged(&self, what: &str) -> RaftError {
        let detail = format!("no readable {what}");
        RaftError::DamagedLog { dir: self.dir.to_owned(), detail }
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
                .fetch_entries_to::<EntryCodec>(self.entries, low, high, max_size, &mut entries)
                .map_err(unavailable)?;
        }
        Ok(entries)
    }

    fn term(&self, index: u64) -> raft::Result<u64> {
        if index == self.truncated.index {
            return Ok(self.truncated.term);
        }
        if index < self.truncated.index {
            return Err(raft::Error::Store(StorageError::Compacted));
        }
        if let Some(front) = self.recent.front()
            && index >= front.index
            && let Some(entry) =
                usize::try_from(index - front.index).ok().and_then(|at| self.recent.get(at))
        {
            return Ok(entry.term);
        }
        let entry =
            self.engine.get_entry::<EntryCodec>(self.entries, index).map_err(unavailable)?;
        entry.map(|entry| entry.term).ok_or(raft::Error::Store(StorageError::Unavailable))
    }

    fn first_index(&self) -> raft::Result<u64> {
        Ok(self.first())
    }

    fn last_index(&self) -> raft::Result<u64> {
        Ok(self.engine.last_index(self.entries).unwrap_or(0).max(self.truncated.index))
    }

    /// Only says which snapshot there is: what is in it travels beside Raft.
    fn snapshot(&self, request_index: u64, to: u64) -> raft::Result<Snapshot> {
        let suits = |record: &&SnapshotRecord| {
            let is_member = record.voters.contains(&to) || record.learners.contains(&to);
            record.index >= request_index && is_member
        };
        let message = self.snapshot.as_ref().filter(suits).map(SnapshotRecord::to_message);
        message.and_then(Result::ok).ok_or_else(|| {
            self.wanted.set(true);
            raft::Error::Store(StorageError::SnapshotTemporarilyUnavailable)
        })
    }
}
