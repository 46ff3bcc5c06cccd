//! Group commit: files with new bytes wait in one queue, a few threads flush
//! them, and everything written before a flush is covered by it.
//!
//! A file that was not flushed for a while is flushed at once; one that is
//! written all the time, once an interval. A failed flush is never tried again:
//! the kernel may have dropped the bytes and would report success.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use super::{
    disk::{self, Disk, lock},
    entry::{Content, Entry},
};

/// Where one file is on its way through the queue.
#[derive(Debug, Default)]
pub(super) struct Schedule {
    phase: Phase,
    /// When it may be flushed again.
    next: Option<Instant>,
}

#[derive(Debug, Default)]
enum Phase {
    #[default]
    Idle,
    Queued,
    Flushing,
    /// More was written during the flush.
    FlushingAgain,
}

/// The files that wait for a flush.
#[derive(Debug)]
pub(super) struct SyncQueue {
    interval: Duration,
    root: PathBuf,
    disk: Arc<dyn Disk>,
    waiting: Mutex<Waiting>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Waiting {
    /// By when each is due (`None`: now) and a number that tells them apart.
    due: BTreeMap<(Option<Instant>, u64), Arc<Entry>>,
    number: u64,
    stopping: bool,
}

impl Waiting {
    fn push(&mut self, entry: &Arc<Entry>, schedule: &mut Schedule) {
        schedule.phase = Phase::Queued;
        self.number += 1;
        self.due.insert((schedule.next, self.number), Arc::clone(entry));
    }
}

impl SyncQueue {
    pub(super) fn new(interval: Duration, root: PathBuf, disk: Arc<dyn Disk>) -> Self {
        Self { interval, root, disk, waiting: Mutex::default(), changed: Condvar::new() }
    }

    /// Has the file flushed: all that was written before this call.
    pub(super) fn push(&self, entry: &Arc<Entry>) {
        let mut waiting = lock(&self.waiting);
        let mut schedule = lock(&entry.schedule);
        match schedule.phase {
            Phase::Idle => {
                waiting.push(entry, &mut schedule);
                self.changed.notify_one();
            }
            Phase::Flushing => schedule.phase = Phase::FlushingAgain,
            Phase::Queued | Phase::FlushingAgain => {}
        }
    }

    /// Ends [`Self::run`] once everything that waits is flushed.
    pub(super) fn stop(&self) {
        lock(&self.waiting).stopping = true;
        self.changed.notify_all();
    }

    /// Flushes until stopped.
    pub(super) fn run(&self) {
        while let Some(entry) = self.take() {
            self.flush(&entry);
            self.finish(&entry);
        }
    }

    /// Flushes what is due by now, and returns.
    pub(super) fn flush_due(&self) {
        let now = Instant::now();
        loop {
            let mut waiting = lock(&self.waiting);
            let first = waiting.due.first_key_value();
            if first.is_none_or(|((due, _), _)| due.is_some_and(|due| due > now)) {
                return;
            }
            let Some(entry) = self.begin(&mut waiting, now) else { return };
            drop(waiting);
            self.flush(&entry);
            self.finish(&entry);
        }
    }

    /// The first that waits, whose flush begins.
    fn begin(&self, waiting: &mut Waiting, now: Instant) -> Option<Arc<Entry>> {
        let (_, entry) = waiting.due.pop_first()?;
        let mut schedule = lock(&entry.schedule);
        schedule.phase = Phase::Flushing;
        schedule.next = Some(now + self.interval);
        drop(schedule);
        Some(entry)
    }

    /// The next whose flush is due, when it is.
    fn take(&self) -> Option<Arc<Entry>> {
        let mut waiting = lock(&self.waiting);
        loop {
            let now = Instant::now();
            let early = match waiting.due.first_key_value() {
                Some(((Some(due), _), _)) if !waiting.stopping => due.checked_duration_since(now),
                Some(_) => None,
                None if waiting.stopping => return None,
                None => Some(Duration::MAX),
            };
            waiting = match early.filter(|early| !early.is_zero()) {
                Some(Duration::MAX) => {
                    self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner)
                }
                Some(early) => {
                    let woken = self.changed.wait_timeout(waiting, early);
                    woken.unwrap_or_else(PoisonError::into_inner).0
                }
                None => return self.begin(&mut waiting, now),
            };
        }
    }

    fn finish(&self, entry: &Arc<Entry>) {
        let mut waiting = lock(&self.waiting);
        let mut schedule = lock(&entry.schedule);
        if matches!(schedule.phase, Phase::FlushingAgain) {
            waiting.push(entry, &mut schedule);
            self.changed.notify_one();
        } else {
            schedule.phase = Phase::Idle;
        }
    }

    fn flush(&self, entry: &Entry) {
        let (path, file, length, entry_synced) = match &lock(&entry.slot).content {
            // A closed file has nothing to flush.
            Content::Open(part) => match &part.file {
                Some(file) => (part.path.clone(), Arc::clone(file), part.length, part.entry_synced),
                None => return,
            },
            _ => return,
        };
        let mut result = self.disk.sync_data(&path, &file).map_err(|error| error.to_string());
        if result.is_ok() && !entry_synced {
            let folder = entry.name.folder(&self.root);
            result = disk::keep_entry(&*self.disk, &folder).map_err(|error| error.to_string());
        }

        let mut slot = lock(&entry.slot);
        let Content::Open(part) = &mut slot.content else { return };
        if !part.file.as_ref().is_some_and(|open| Arc::ptr_eq(open, &file)) {
            return;
        }
        match result {
            Ok(()) => {
                part.entry_synced = true;
                entry.durability.send_modify(|durability| durability.length = length);
                drop(slot);
                entry.changed();
            }
            Err(error) => {
                tracing::error!(file = %entry.name, error, "cannot flush; giving the file up");
                entry.fail(&*self.disk, &mut slot);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{
            disk::SystemDisk,
            entry::Registry,
            name::{Digest, FileName},
        },
        *,
    };

    fn entry(content: &[u8]) -> Arc<Entry> {
        let digest = Digest::from(blake3::hash(content));
        Registry::entry(&Arc::default(), FileName::Upload { digest })
    }

    fn queue() -> SyncQueue {
        SyncQueue::new(Duration::from_secs(3600), PathBuf::from("/"), Arc::new(SystemDisk))
    }

    fn due(queue: &SyncQueue) -> Vec<Option<Instant>> {
        lock(&queue.waiting).due.keys().map(|(due, _)| *due).collect()
    }

    #[test]
    fn a_lone_write_is_flushed_at_once_and_the_next_ones_together_after_the_interval() {
        let queue = queue();
        let file = entry(b"file");
        queue.push(&file);
        queue.push(&file);
        assert_eq!(due(&queue), [None]);

        let before = Instant::now();
        let taken = queue.take().unwrap();
        for _ in 0..100 {
            queue.push(&file);
        }
        assert_eq!(due(&queue), []);
        queue.finish(&taken);
        let [Some(again)] = due(&queue)[..] else { panic!("it must wait, once") };
        assert!(again >= before + Duration::from_secs(3600));
    }

    #[test]
    fn a_file_that_waits_does_not_hold_up_others_and_is_flushed_before_the_stop() {
        let queue = queue();
        let (busy, other) = (entry(b"busy"), entry(b"other"));
        queue.push(&busy);
        let taken = queue.take().unwrap();
        queue.push(&busy);
        queue.finish(&taken);
        queue.push(&other);
        assert_eq!(queue.take().unwrap().name, other.name);
        queue.stop();
        assert_eq!(queue.take().unwrap().name, busy.name);
        assert!(queue.take().is_none());
    }
}
