//! The Raft log: entries, the hard state, and which snapshot stands for what came
//! before them.
//!
//! Some entries before the snapshot stay for a while, so that a follower that lags
//! a little need not fetch it.

use std::{
    cell::Cell,
    collections::VecDeque,
    path::{Path, PathBuf},
};

use baton_state::Index;
use protobuf::Message as _;
use raft::{
    GetEntriesContext, RaftState, Storage, StorageError,
    eraftpb::{ConfState, Entry, HardState, Snapshot},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{
    RaftError,
    engine::{self, Batch, Engine, EngineError},
};

/// The first group of entries; another one each time a snapshot takes their place.
const FIRST_ENTRIES: u64 = 2;
const NODE_ID: &str = "node_id";
const HARD_STATE: &str = "hard_state";
const SNAPSHOT: &str = "snapshot";
const TRUNCATED: &str = "truncated";
const ENTRIES: &str = "entries";
const RECEIVED_HISTORY: &str = "received_history";

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
    engine: Box<dyn Engine>,
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
        let dir = dir.join("log");
        Self::new(engine::open(&dir, file_bytes)?, dir, node_id)
    }

    /// The log of a node in an engine, which may be empty; `dir` is where its files
    /// are, for people.
    pub(super) fn new(
        engine: Box<dyn Engine>,
        dir: PathBuf,
        node_id: u64,
    ) -> Result<Self, RaftError> {
        let read = Keys { dir: &dir, engine: &*engine };
        let found = read.number(NODE_ID, "node id")?;
        if found.is_none() && !engine.is_empty() {
            return Err(read.damaged("node id"));
        }
        let snapshot: Option<SnapshotRecord> = read.record(SNAPSHOT, "snapshot record")?;
        let mut store = Self {
            hard_state: read.hard_state()?,
            conf_state: snapshot.as_ref().map(SnapshotRecord::conf_state).unwrap_or_default(),
            snapshot,
            truncated: read.record(TRUNCATED, "start")?.unwrap_or_default(),
            entries: read.number(ENTRIES, "group of entries")?.unwrap_or(FIRST_ENTRIES),
            received_history: read.number(RECEIVED_HISTORY, "end of the history")?.unwrap_or(0),
            dir: dir.clone(),
            engine,
            recent: VecDeque::new(),
            wanted: Cell::new(false),
        };
        match found {
            Some(found) if found != node_id => {
                return Err(RaftError::ForeignFolder { dir, found, expected: node_id });
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
        let mut batch = Batch::default();
        batch.puts.push((NODE_ID, node_id.to_le_bytes().to_vec()));
        self.write(batch, true)
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
        let mut batch = Batch::default();
        batch.puts.push((RECEIVED_HISTORY, through.to_le_bytes().to_vec()));
        self.write(batch, true)?;
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
        let mut batch = Batch::default();
        if let Some(first) = entries.first() {
            let first = first.index;
            while self.recent.back().is_some_and(|last| last.index >= first) {
                self.recent.pop_back();
            }
            self.recent.extend(entries.iter().cloned());
            batch.entries = Some((self.entries, entries));
        }
        if let Some(hard_state) = hard_state {
            self.hard_state = hard_state.clone();
            let bytes = self.encode(hard_state)?;
            batch.puts.push((HARD_STATE, bytes));
        }
        if batch.is_empty() { Ok(()) } else { self.write(batch, sync) }
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
        let mut batch = Batch::default();
        let last_gone = record.index.saturating_sub(keep);
        let mut truncated = self.truncated;
        if last_gone > truncated.index {
            truncated = Truncated { index: last_gone, term: self.term(last_gone)? };
            batch.compact = Some((self.entries, last_gone + 1));
        }
        // The commit index may lag behind on disk, and must not lag behind the snapshot.
        self.hard_state.commit = self.hard_state.commit.max(record.index);
        // Those that have not changed too: raft-engine writes the values of files that it
        // removes into another, whose last record could be damaged without a sign.
        batch.puts = vec![
            (SNAPSHOT, record_bytes(&record)),
            (HARD_STATE, self.encode(&self.hard_state)?),
            (TRUNCATED, record_bytes(&truncated)),
            (ENTRIES, self.entries.to_le_bytes().to_vec()),
            (RECEIVED_HISTORY, self.received_history.to_le_bytes().to_vec()),
        ];
        self.write(batch, true)?;
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
        let mut batch = Batch::default();
        batch.puts.push((SNAPSHOT, record_bytes(&record)));
        let truncated = Truncated { index: record.index, term: record.term };
        batch.puts.push((TRUNCATED, record_bytes(&truncated)));
        let bytes = self.encode(hard_state)?;
        batch.puts.push((HARD_STATE, bytes));
        let entries = self.entries + 1;
        batch.puts.push((ENTRIES, entries.to_le_bytes().to_vec()));
        batch.clean = Some(self.entries);
        self.write(batch, true)?;
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
        self.engine.purge().map_err(|e| self.failed(e))
    }

    /// Puts everything on disk. Then the last record holds nothing that anybody
    /// was told, and damage to any other is noticed.
    pub(super) fn close(&mut self) -> Result<(), RaftError> {
        let hard_state = self.hard_state.clone();
        self.append(Vec::new(), Some(&hard_state), true)
    }

    fn write(&mut self, batch: Batch, sync: bool) -> Result<(), RaftError> {
        self.engine.write(batch, sync).map_err(|e| self.failed(e))
    }

    fn encode(&self, message: &impl protobuf::Message) -> Result<Vec<u8>, RaftError> {
        message.write_to_bytes().map_err(|e| self.failed(e.into()))
    }

    fn failed(&self, source: EngineError) -> RaftError {
        RaftError::Log { dir: self.dir.clone(), source }
    }
}

fn record_bytes(record: &impl Serialize) -> Vec<u8> {
    #[expect(clippy::expect_used, reason = "numbers and a hash can be encoded")]
    rmp_serde::to_vec_named(record).expect("a record can be encoded")
}

/// The keys of a log that is being opened.
struct Keys<'a> {
    dir: &'a Path,
    engine: &'a dyn Engine,
}

impl Keys<'_> {
    fn hard_state(&self) -> Result<HardState, RaftError> {
        let found = self.engine.get(HARD_STATE).map(|bytes| HardState::parse_from_bytes(&bytes));
        let found = found.transpose().map_err(|_| self.damaged("hard state"))?;
        Ok(found.unwrap_or_default())
    }

    fn number(&self, key: &str, what: &str) -> Result<Option<u64>, RaftError> {
        let found = self.engine.get(key).map(<[u8; 8]>::try_from);
        let found = found.transpose().map_err(|_| self.damaged(what))?;
        Ok(found.map(u64::from_le_bytes))
    }

    fn record<T: DeserializeOwned>(&self, key: &str, what: &str) -> Result<Option<T>, RaftError> {
        let found = self.engine.get(key).map(|bytes| rmp_serde::from_slice(&bytes));
        found.transpose().map_err(|_| self.damaged(what))
    }

    fn damaged(&self, what: &str) -> RaftError {
        let detail = format!("no readable {what}");
        RaftError::DamagedLog { dir: self.dir.to_owned(), detail }
    }
}

fn unavailable(error: EngineError) -> raft::Error {
    raft::Error::Store(StorageError::Other(error))
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
            entries =
                self.engine.entries(self.entries, low, high, max_size).map_err(unavailable)?;
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
        let entry = self.engine.entry(self.entries, index).map_err(unavailable)?;
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
