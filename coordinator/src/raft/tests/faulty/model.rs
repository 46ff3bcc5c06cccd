//! The log as it must be: what was written to it, kept in memory.

use std::collections::BTreeMap;

use baton_state::Index;
use raft::{
    GetEntriesContext, Storage as _,
    eraftpb::{Entry, HardState},
};

use crate::raft::store::{SnapshotRecord, Store};

/// What one write changes.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Append { entries: Vec<Entry>, hard_state: Option<HardState>, sync: bool },
    Compact { record: SnapshotRecord, keep: u64 },
    Install { record: SnapshotRecord, hard_state: HardState },
    Received(Index),
    Purge,
    Close,
}

/// All that a log holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Log {
    pub(super) hard_state: HardState,
    pub(super) entries: BTreeMap<Index, Entry>,
    /// The entry before the first, and its term.
    pub(super) truncated: (Index, u64),
    pub(super) snapshot: Option<SnapshotRecord>,
    received: Index,
}

impl Change {
    /// It is on disk once the store says that it is written.
    pub(super) fn is_synced(&self) -> bool {
        !matches!(self, Self::Append { sync: false, .. } | Self::Purge)
    }

    pub(super) fn write(&self, store: &mut Store) -> Result<(), crate::raft::RaftError> {
        match self.clone() {
            Self::Append { entries, hard_state, sync } => {
                store.append(entries, hard_state.as_ref(), sync)
            }
            Self::Compact { record, keep } => store.compact(record, keep),
            Self::Install { record, hard_state } => store.install(record, &hard_state),
            Self::Received(through) => store.set_received_history(through),
            Self::Purge => store.purge(),
            Self::Close => store.close(),
        }
    }
}

impl Log {
    pub(super) fn last(&self) -> Index {
        self.entries.keys().next_back().map_or(self.truncated.0, |last| *last)
    }

    pub(super) fn term(&self, index: Index) -> u64 {
        self.entries.get(&index).map_or(self.truncated.1, |entry| entry.term)
    }

    pub(super) fn after(&self, change: &Change) -> Self {
        let mut log = self.clone();
        match change.clone() {
            Change::Append { entries, hard_state, .. } => {
                if let Some(first) = entries.first() {
                    log.entries.split_off(&first.index);
                }
                log.entries.extend(entries.into_iter().map(|entry| (entry.index, entry)));
                log.hard_state = hard_state.unwrap_or(log.hard_state);
            }
            Change::Compact { record, keep } => {
                log.hard_state.commit = log.hard_state.commit.max(record.index);
                let gone = record.index.saturating_sub(keep);
                if gone > log.truncated.0 {
                    log.truncated = (gone, log.term(gone));
                    log.entries = log.entries.split_off(&(gone + 1));
                }
                log.snapshot = Some(record);
            }
            Change::Install { record, hard_state } => {
                log.hard_state = hard_state;
                log.entries.clear();
                log.truncated = (record.index, record.term);
                log.snapshot = Some(record);
            }
            Change::Received(through) => log.received = through,
            Change::Purge | Change::Close => {}
        }
        log
    }

    /// What a store has.
    pub(super) fn of(store: &Store) -> raft::Result<Self> {
        let (first, last) = (store.first(), store.last_index()?);
        let mut entries = Vec::new();
        if first <= last {
            let context = GetEntriesContext::empty(false);
            entries = store.entries(first, last + 1, None, context)?;
        }
        Ok(Self {
            hard_state: store.initial_state()?.hard_state,
            entries: entries.into_iter().map(|entry| (entry.index, entry)).collect(),
            truncated: (first - 1, store.term(first - 1)?),
            snapshot: store.snapshot_record().cloned(),
            received: store.received_history(),
        })
    }
}
