//! The log on a disk that fails: power that goes at any moment, processes that are
//! killed, writes and flushes that fail, bits that flip.

mod content;
mod disk;
mod model;
mod node;
mod work;

use std::{cell::Cell, path::PathBuf, sync::Arc};

use proptest::{
    prelude::RngExt as _,
    test_runner::{RngAlgorithm, TestRng},
};
use tempfile::TempDir;

use self::{
    disk::{FaultyDisk, Operation},
    model::{Change, Log},
};
use super::FILE;
use crate::raft::{RaftError, engine, store::Store};

/// A log on a disk of its own, and what must be in it.
struct Case {
    seed: u64,
    chance: TestRng,
    folder: TempDir,
    disk: FaultyDisk,
    file_bytes: u64,
    /// What the log was after each write since it was last read from the disk.
    written: Vec<Log>,
    /// Which of them, or a later one, must be there.
    acknowledged: usize,
}

impl Drop for Case {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the case of seed {}", self.seed);
        }
    }
}

impl Case {
    fn new(seed: u64) -> Self {
        // raft-engine flushes its folder past the disk: quick in memory.
        let folder = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let chance = |stream: u64| {
            let mut bytes = [0; 32];
            bytes[..8].copy_from_slice(&seed.to_le_bytes());
            bytes[8..16].copy_from_slice(&stream.to_le_bytes());
            TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
        };
        let disk = FaultyDisk::new(&folder.path().join("log"), chance(1));
        Self {
            seed,
            chance: chance(0),
            folder,
            disk,
            file_bytes: FILE,
            written: vec![Log::default()],
            acknowledged: 0,
        }
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn open(&self) -> Result<Store, RaftError> {
        let engine = engine::open_on(&self.dir(), self.file_bytes, Arc::new(self.disk.clone()))?;
        Store::new(engine, self.dir(), 1)
    }

    /// Writes until something is refused, or often enough.
    fn work(&mut self, store: &mut Store, writes: usize) -> Result<(), RaftError> {
        for _ in 0..writes {
            let log = self.written.last().unwrap();
            let change = work::next(log, &mut self.chance);
            self.write(store, &change)?;
            if matches!(change, Change::Compact { .. }) {
                self.write(store, &Change::Purge)?;
            }
            let log = self.written.last().unwrap();
            if self.chance.random_ratio(1, 3) {
                store.applied(log.hard_state.commit);
            }
            if self.chance.random_ratio(1, 10) {
                assert!(Log::of(store)? == *log, "what is read was written");
            }
        }
        Ok(())
    }

    fn write(&mut self, store: &mut Store, change: &Change) -> Result<(), RaftError> {
        self.written.push(self.written.last().unwrap().after(change));
        change.write(store)?;
        assert!(!self.disk.struck(), "a failure is told: {change:?}");
        if change.is_synced() {
            self.acknowledged = self.written.len() - 1;
        }
        Ok(())
    }

    /// What is there must have been written as it is, and nothing acknowledged may be
    /// missing. From then on, all of it must be there: others have been told.
    fn check(&mut self, store: &Store) {
        let found = match Log::of(store) {
            Ok(found) => found,
            Err(_) if self.disk.struck() => return,
            Err(error) => panic!("{error}"),
        };
        let any = &self.written[self.acknowledged..];
        let earlier = self.written.iter().rposition(|log| *log == found);
        assert!(
            any.contains(&found),
            "of {} writes {} were acknowledged, and what is there was after {earlier:?}",
            self.written.len() - 1,
            self.acknowledged,
        );
        self.written = vec![found];
        self.acknowledged = 0;
    }

    /// Opens the log on a disk that is whole, and looks at what is there.
    fn open_again(&mut self) -> Store {
        let store = self.open().unwrap();
        self.check(&store);
        store
    }

    /// Ends the process, which writes nothing more.
    fn kill(&self, store: Store) {
        self.disk.lose_power_after(0);
        drop(store);
    }

    /// The power goes, or only the process.
    fn end(&mut self) {
        if self.chance.random_ratio(1, 3) { self.disk.restart() } else { self.disk.crash() }
    }
}

/// How many cases each test tries.
fn cases() -> u64 {
    #[expect(clippy::disallowed_methods, reason = "only whoever runs the tests asks for more")]
    let asked = std::env::var("BATON_TEST_CASES").ok();
    asked.map_or(400, |cases| cases.parse().unwrap())
}

fn each(run: impl Fn(&mut Case)) {
    for seed in 0..cases() {
        run(&mut Case::new(seed));
    }
}

#[test]
fn what_was_acknowledged_is_there_whenever_the_power_goes() {
    each(|case| {
        for _ in 0..case.chance.random_range(2..6) {
            // Often during the recovery.
            let most = if case.chance.random() { 30 } else { 300 };
            let operations = case.chance.random_range(0..most);
            case.disk.lose_power_after(operations);
            if let Ok(mut store) = case.open() {
                case.check(&store);
                let most = if case.chance.random() { 2 } else { 80 };
                let writes = case.chance.random_range(0..most);
                let _ = case.work(&mut store, writes);
                case.kill(store);
            }
            case.end();
        }
        case.open_again();
    });
}

#[test]
fn after_a_failure_nothing_is_written_and_what_was_acknowledged_is_there() {
    let operations = [
        Operation::Create,
        Operation::Delete,
        Operation::Read,
        Operation::Write,
        Operation::Truncate,
        Operation::Allocate,
        Operation::Sync,
        Operation::Folder,
    ];
    let failures = Cell::new(0);
    each(|case| {
        let mut store = case.open().unwrap();
        let operation = operations[case.chance.random_range(0..operations.len())];
        let often = matches!(operation, Operation::Write | Operation::Sync | Operation::Read);
        let after = case.chance.random_range(0..if often { 60 } else { 6 });
        // raft-engine looks for this word.
        let what = if case.chance.random() { "nospace" } else { "no such luck" };
        case.disk.fail(operation, after, what);
        if let Err(error) = case.work(&mut store, 100) {
            failures.set(failures.get() + 1);
            assert!(case.disk.struck(), "{error}");
            for _ in 0..5 {
                case.work(&mut store, 1).expect_err("it has failed before");
            }
        }
        drop(store);
        case.end();
        let store = case.open_again();
        // What it showed is there for good.
        case.kill(store);
        case.disk.crash();
        case.open_again();
    });
    assert!(failures.get() > cases() / 3, "it failed {} times", failures.get());
}

#[test]
fn what_a_log_shows_after_a_flush_that_failed_stays() {
    each(|case| {
        let mut store = case.open().unwrap();
        case.work(&mut store, 10).unwrap();
        case.disk.fail(Operation::Sync, 0, "no such luck");
        case.work(&mut store, 100).expect_err("a flush fails");
        drop(store);
        case.disk.restart();
        let store = case.open_again();
        case.kill(store);
        case.disk.crash();
        case.open_again();
    });
}

#[test]
fn a_failure_while_a_log_is_opened_is_told_and_loses_nothing() {
    let operations = [
        Operation::Open,
        Operation::Read,
        Operation::Sync,
        Operation::Truncate,
        Operation::Write,
        Operation::Folder,
    ];
    let failures = Cell::new(0);
    each(|case| {
        let mut store = case.open().unwrap();
        case.disk.lose_power_after(case.chance.random_range(20..300));
        let _ = case.work(&mut store, 60);
        case.kill(store);
        case.end();
        let operation = operations[case.chance.random_range(0..operations.len())];
        case.disk.fail(operation, case.chance.random_range(0..8), "no such luck");
        match case.open() {
            Ok(store) => {
                assert!(!case.disk.struck(), "a failure is told");
                case.check(&store);
            }
            Err(error) => {
                failures.set(failures.get() + 1);
                assert!(error.to_string().contains("no such luck"), "{error}");
            }
        }
        case.end();
        case.open_again();
    });
    assert!(failures.get() > cases() / 4, "it failed {} times", failures.get());
}

#[test]
fn a_flush_of_many_pages_may_lose_any_of_them() {
    each(|case| {
        case.file_bytes = 16 * FILE;
        let mut store = case.open().unwrap();
        case.work(&mut store, 10).unwrap();
        // As a leader writes them with much under way: none of them is flushed.
        for _ in 0..case.chance.random_range(0..200) {
            let change = work::commit(case.written.last().unwrap(), &mut case.chance);
            case.write(&mut store, &change).unwrap();
        }
        let operations = case.chance.random_range(0..4);
        case.disk.lose_power_after(operations);
        let _ = case.work(&mut store, 2);
        case.kill(store);
        case.disk.crash();
        case.open_again();
    });
}

#[test]
fn a_bit_that_flips_is_damage_or_loses_nothing_acknowledged() {
    let noticed = Cell::new(0);
    each(|case| {
        let mut store = case.open().unwrap();
        let writes = case.chance.random_range(1..120);
        case.work(&mut store, writes).unwrap();
        // A node stops with a flush, and lets a record follow before it acknowledges.
        if case.chance.random() {
            case.write(&mut store, &Change::Close).unwrap();
            drop(store);
        } else {
            let change = work::commit(case.written.last().unwrap(), &mut case.chance);
            case.write(&mut store, &change).unwrap();
            case.kill(store);
            case.disk.restart();
        }
        let flipped = case.disk.flip().unwrap();
        match case.open() {
            Ok(store) => case.check(&store),
            Err(RaftError::DamagedLog { .. } | RaftError::LogIncomplete { .. }) => {
                noticed.set(noticed.get() + 1);
            }
            Err(error) => panic!("{flipped}: {error}"),
        }
    });
    assert!(noticed.get() > cases() / 3, "it was noticed {} times", noticed.get());
}
