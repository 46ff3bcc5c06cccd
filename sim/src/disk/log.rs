//! A disk for the Raft log: records with checksums in memory, of which a loss of power
//! may take those that were not flushed, the last one in the middle. Reading it back
//! follows raft-engine's rules: what is cut short at the end was never written, and
//! damage to anything else is an error. So does what comes after a failure: nothing is
//! written any more.

use std::{
    cell::Cell,
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use baton_coordinator::raft::engine::{Batch, Engine, EngineError};
use baton_state::Index;
use protobuf::Message as _;
use raft::eraftpb::Entry;

use super::Io;
use crate::{
    bugs::{Bug, Bugs},
    fuse::{Fuse, Step},
};

/// Bytes before each record: its length and its checksum.
const HEADER: usize = 8;

/// The bytes of one node's log. Clones are the same disk; it outlives the process.
#[derive(Clone, Debug)]
pub struct LogDisk(Arc<Mutex<Bytes>>);

#[derive(Debug)]
struct Bytes {
    random: fastrand::Rng,
    all: Vec<u8>,
    /// As many of them survive a loss of power.
    flushed: usize,
    /// What fails next.
    fails: Option<Io>,
    failed: u64,
    since_opened: SinceOpened,
}

/// How the log has fared in the hands of the process that has it open.
#[derive(Clone, Copy, Debug, Default)]
struct SinceOpened {
    /// Something has failed.
    failed: bool,
    /// A write was not carried out, whoever asked for it was told, and must stop.
    refused: bool,
}

/// What a loss of power did to the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Bytes that were never flushed.
    pub bytes: usize,
    /// A record was cut in the middle.
    pub torn: bool,
}

impl LogDisk {
    /// An empty log. `random` decides what a failure leaves.
    #[must_use]
    pub fn new(random: fastrand::Rng) -> Self {
        Self(Arc::new(Mutex::new(Bytes {
            random,
            all: Vec::new(),
            flushed: 0,
            fails: None,
            failed: 0,
            since_opened: SinceOpened::default(),
        })))
    }

    /// The next operation of this kind fails, once.
    pub fn fail_next(&self, io: Io) {
        self.lock().fails = Some(io);
    }

    /// How many operations have failed.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.lock().failed
    }

    /// Whether an operation has failed since the log was opened: whoever has it open may
    /// stop.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        self.lock().since_opened.failed
    }

    /// Whether a write or a flush was not carried out since the log was opened: whoever
    /// has it open must stop.
    #[must_use]
    pub fn has_refused(&self) -> bool {
        self.lock().since_opened.refused
    }

    /// Loses some of what was not flushed.
    pub fn lose_power(&self) -> Lost {
        let mut disk = self.lock();
        let places = disk.flushed..=disk.all.len();
        let kept = disk.random.usize(places);
        let bytes = disk.all.len() - kept;
        disk.all.truncate(kept);
        let torn = records(&disk.all).is_ok_and(|(_, end)| end < kept);
        disk.flushed = disk.all.len();
        Lost { bytes, torn }
    }

    /// Whether a snapshot stands for entries that came before those in the log.
    #[must_use]
    pub fn has_snapshot(&self) -> bool {
        let disk = self.lock();
        let found = records(&disk.all).map(|(found, _)| found).unwrap_or_default();
        let mut batches = found.into_iter().filter_map(|record| decode(&disk.all[record]).ok());
        batches.any(|batch| batch.puts.iter().any(|(key, _)| *key == "snapshot"))
    }

    /// Flips one bit of what was flushed; false when there is none that counts. The
    /// last record does not: damage to it looks like a write that was cut short.
    pub fn flip_bit(&self) -> bool {
        let mut disk = self.lock();
        let Ok((found, _)) = records(&disk.all) else { return false };
        let Some(last) = found.last() else { return false };
        let before = last.start - HEADER;
        // A length that points beyond the end would look like a torn record.
        let places: Vec<usize> =
            found.iter().flat_map(|record| record.start - 4..record.end).collect();
        let places: Vec<usize> = places.into_iter().filter(|place| *place < before).collect();
        if places.is_empty() {
            return false;
        }
        let place = places[disk.random.usize(..places.len())];
        let bit = disk.random.u8(..8);
        disk.all[place] ^= 1 << bit;
        true
    }

    /// Takes an operation, unless it is to fail.
    fn take(&self, io: Io) -> Result<(), LogError> {
        let mut disk = self.lock();
        if disk.fails != Some(io) {
            return Ok(());
        }
        disk.fails = None;
        disk.failed += 1;
        disk.since_opened.failed = true;
        disk.since_opened.refused |= io != Io::Read;
        Err(LogError::Failed(io))
    }

    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why the log cannot be read or written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// A record is not what was written.
    #[error("the record at byte {0} is not what was written")]
    Damaged(usize),
    /// An operation failed.
    #[error("input/output error: {0:?}")]
    Failed(Io),
    /// Nothing may be written after a failure.
    #[error("a write after a failure")]
    AfterFailure,
    /// An entry is missing.
    #[error("entry {0} is not there")]
    NoEntry(Index),
}

/// Where the whole records are, and where they end.
fn records(all: &[u8]) -> Result<(Vec<std::ops::Range<usize>>, usize), LogError> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(header) = all.get(at..at + HEADER) {
        let (length, sum) = header.split_at(4);
        let number = |bytes: &[u8]| bytes.iter().rev().fold(0, |n, b| n << 8 | u32::from(*b));
        let body = at + HEADER..at + HEADER + number(length) as usize;
        let Some(bytes) = all.get(body.clone()) else { break };
        if crc32fast::hash(bytes) != number(sum) {
            // The last one may have been cut by a page that never came.
            if body.end == all.len() {
                break;
            }
            return Err(LogError::Damaged(at));
        }
        at = body.end;
        found.push(body);
    }
    Ok((found, at))
}

/// The log of a process that runs.
pub struct MemoryEngine {
    disk: LogDisk,
    fuse: Fuse,
    bugs: Bugs,
    keys: BTreeMap<String, Vec<u8>>,
    groups: BTreeMap<u64, BTreeMap<Index, Entry>>,
    /// Something has failed: nothing may be written any more.
    failed: Cell<bool>,
}

impl MemoryEngine {
    /// Reads what the disk has.
    ///
    /// # Errors
    /// [`LogError::Damaged`].
    pub fn open(disk: LogDisk, fuse: Fuse, bugs: Bugs) -> Result<Self, EngineError> {
        let mut engine = Self {
            disk,
            fuse,
            bugs,
            keys: BTreeMap::new(),
            groups: BTreeMap::new(),
            failed: Cell::new(false),
        };
        let all = {
            let mut disk = engine.disk.lock();
            disk.since_opened = SinceOpened::default();
            let (_, end) = records(&disk.all)?;
            // As a log does that is opened again: what was cut short goes.
            disk.all.truncate(end);
            disk.flushed = end;
            disk.all.clone()
        };
        for record in records(&all)?.0 {
            engine.take(decode(&all[record])?);
        }
        Ok(engine)
    }

    fn take(&mut self, batch: Batch) {
        for (key, value) in batch.puts {
            self.keys.insert(key.to_owned(), value);
        }
        if let Some((group, entries)) = batch.entries
            && let Some(first) = entries.first().map(|entry| entry.index)
        {
            let group = self.groups.entry(group).or_default();
            group.split_off(&first);
            group.extend(entries.into_iter().map(|entry| (entry.index, entry)));
        }
        if let Some((group, before)) = batch.compact
            && let Some(entries) = self.groups.get_mut(&group)
        {
            *entries = entries.split_off(&before);
        }
        if let Some(group) = batch.clean {
            self.groups.remove(&group);
        }
    }

    /// Takes a step that changes the disk, unless something has failed before.
    fn change(
        &self,
        step: Step,
        change: impl FnOnce() -> Result<(), LogError>,
    ) -> Result<(), EngineError> {
        if self.failed.get() {
            self.disk.lock().since_opened.refused = true;
            return Err(LogError::AfterFailure.into());
        }
        let changed = self.fuse.pass(step, change)?;
        self.failed.set(changed.is_err());
        Ok(changed?)
    }

    fn append(&self, body: &[u8]) -> Result<(), LogError> {
        let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
        let mut record = Vec::with_capacity(HEADER + body.len());
        record.extend_from_slice(&length.to_le_bytes());
        record.extend_from_slice(&crc32fast::hash(body).to_le_bytes());
        record.extend_from_slice(body);
        let written = self.disk.take(Io::Write);
        let mut disk = self.disk.lock();
        if written.is_err() {
            // Any of it may be there.
            let kept = disk.random.usize(..=record.len());
            record.truncate(kept);
        }
        disk.all.append(&mut record);
        written
    }

    fn flush(&self) -> Result<(), LogError> {
        self.disk.take(Io::Flush)?;
        let mut disk = self.disk.lock();
        if !self.bugs.has(Bug::AcknowledgesBeforeFlush) {
            disk.flushed = disk.all.len();
        }
        Ok(())
    }

    /// Before something is read: it may be what fails.
    fn before_read(&self) -> Result<(), LogError> {
        self.disk.take(Io::Read).inspect_err(|_| self.failed.set(true))
    }
}

impl Engine for MemoryEngine {
    fn write(&mut self, batch: Batch, sync: bool) -> Result<(), EngineError> {
        let body = encode(&batch);
        self.change(Step::LogWrite, || self.append(&body))?;
        if sync {
            self.change(Step::LogFlush, || self.flush())?;
        }
        self.take(batch);
        Ok(())
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.keys.get(key).cloned()
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.groups.is_empty()
    }

    fn first_index(&self, group: u64) -> Option<Index> {
        self.groups.get(&group)?.keys().next().copied()
    }

    fn last_index(&self, group: u64) -> Option<Index> {
        self.groups.get(&group)?.keys().next_back().copied()
    }

    fn entry(&self, group: u64, index: Index) -> Result<Option<Entry>, EngineError> {
        self.before_read()?;
        Ok(self.groups.get(&group).and_then(|entries| entries.get(&index)).cloned())
    }

    fn entries(
        &self,
        group: u64,
        low: Index,
        high: Index,
        max_size: Option<usize>,
    ) -> Result<Vec<Entry>, EngineError> {
        self.before_read()?;
        let none = BTreeMap::new();
        let group = self.groups.get(&group).unwrap_or(&none);
        let (mut found, mut size) = (Vec::new(), 0);
        for index in low..high {
            let entry = group.get(&index).ok_or(LogError::NoEntry(index))?;
            size += entry.compute_size() as usize;
            if !found.is_empty() && max_size.is_some_and(|most| size > most) {
                break;
            }
            found.push(entry.clone());
        }
        Ok(found)
    }

    fn purge(&mut self) -> Result<(), EngineError> {
        Ok(())
    }
}

/// Keys by their names' place in this list.
const KEYS: [&str; 6] =
    ["node_id", "hard_state", "snapshot", "truncated", "entries", "received_history"];

fn encode(batch: &Batch) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |kind: u8, number: u64, body: &[u8]| {
        bytes.push(kind);
        bytes.extend_from_slice(&number.to_le_bytes());
        bytes.extend_from_slice(&(body.len() as u64).to_le_bytes());
        bytes.extend_from_slice(body);
    };
    for (key, value) in &batch.puts {
        let key = KEYS.iter().position(|known| known == key).map_or(u64::MAX, |key| key as u64);
        put(0, key, value);
    }
    if let Some((group, entries)) = &batch.entries {
        for entry in entries {
            put(1, *group, &entry.write_to_bytes().unwrap_or_default());
        }
    }
    if let Some((group, index)) = batch.compact {
        put(2, group, &index.to_le_bytes());
    }
    if let Some(group) = batch.clean {
        put(3, group, &[]);
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Result<Batch, EngineError> {
    let mut batch = Batch::default();
    while let [kind, rest @ ..] = bytes {
        let (number, rest) = rest.split_first_chunk().ok_or("a record is too short")?;
        let (length, rest) = rest.split_first_chunk().ok_or("a record is too short")?;
        let number = u64::from_le_bytes(*number);
        let length = usize::try_from(u64::from_le_bytes(*length))?;
        let (body, rest) = rest.split_at_checked(length).ok_or("a record is too short")?;
        bytes = rest;
        match kind {
            0 => {
                let key = KEYS.get(usize::try_from(number)?).ok_or("a key that nobody wrote")?;
                batch.puts.push((key, body.to_vec()));
            }
            1 => {
                let (_, entries) = batch.entries.get_or_insert_with(|| (number, Vec::new()));
                entries.push(Entry::parse_from_bytes(body)?);
            }
            2 => batch.compact = Some((number, u64::from_le_bytes(body.try_into()?))),
            _ => batch.clean = Some(number),
        }
    }
    Ok(batch)
}
