//! Draws what is written to a log next: what a node could ask of it.

use proptest::{prelude::RngExt as _, test_runner::TestRng};
use raft::eraftpb::{Entry, HardState};

use super::model::{Change, Log};
use crate::raft::store::SnapshotRecord;

/// The next write to this log, in a new term or not.
pub(super) fn next(log: &Log, chance: &mut TestRng) -> Change {
    match chance.random_range(0..20) {
        8..12 => commit(log, chance),
        12 => vote(log, chance),
        13..17 if log.hard_state.commit > log.truncated.0 => compact(log, chance),
        17 => install(log, chance),
        18 => Change::Received(chance.random_range(1..1_000)),
        19 => Change::Close,
        _ => append(log, chance),
    }
}

fn append(log: &Log, chance: &mut TestRng) -> Change {
    let term = log.hard_state.term.max(1) + u64::from(chance.random_ratio(1, 5));
    // What is committed is never overwritten.
    let overwrites = chance.random_ratio(1, 4);
    let committed = log.hard_state.commit.max(log.truncated.0);
    let before = if overwrites { chance.random_range(committed..=log.last()) } else { log.last() };
    let entries = (1..=chance.random_range(1..6)).map(|offset| {
        let mut entry = Entry { index: before + offset, term, ..Entry::default() };
        let bytes = match chance.random_range(0..12) {
            0 => 20_000,
            1..4 => 3_000,
            _ => 100,
        };
        let length = chance.random_range(1..bytes);
        // Never the same twice, so that one is not taken for another.
        let content = std::iter::repeat_with(|| chance.random_range(1..=255)).take(length);
        entry.set_data(content.collect::<Vec<u8>>().into());
        entry
    });
    let entries = entries.collect();
    let hard_state = (term != log.hard_state.term).then(|| HardState {
        term,
        vote: 0,
        ..log.hard_state.clone()
    });
    Change::Append { entries, hard_state, sync: true }
}

/// An entry more is committed, or none.
pub(super) fn commit(log: &Log, chance: &mut TestRng) -> Change {
    let commit = chance.random_range(log.hard_state.commit..=log.last());
    let hard_state = HardState { commit, ..log.hard_state.clone() };
    Change::Append { entries: Vec::new(), hard_state: Some(hard_state), sync: false }
}

fn vote(log: &Log, chance: &mut TestRng) -> Change {
    let term = log.hard_state.term + 1;
    let hard_state = HardState { term, vote: chance.random_range(1..4), ..log.hard_state.clone() };
    Change::Append { entries: Vec::new(), hard_state: Some(hard_state), sync: true }
}

fn record(index: u64, term: u64, chance: &mut TestRng) -> SnapshotRecord {
    SnapshotRecord { index, term, blake3: chance.random(), voters: vec![1, 2], learners: vec![3] }
}

fn compact(log: &Log, chance: &mut TestRng) -> Change {
    let index = chance.random_range(log.truncated.0 + 1..=log.hard_state.commit);
    let newest = log.snapshot.as_ref().map_or(0, |record| record.index);
    let index = index.max(newest);
    let record = record(index, log.term(index), chance);
    Change::Compact { record, keep: chance.random_range(0..20) }
}

fn install(log: &Log, chance: &mut TestRng) -> Change {
    let index = log.last() + chance.random_range(1..10);
    let term = log.hard_state.term.max(1);
    let hard_state = HardState { term, commit: index, ..log.hard_state.clone() };
    Change::Install { record: record(index, term, chance), hard_state }
}
