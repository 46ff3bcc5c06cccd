//! A file that somebody uses at this moment: what its appender, its readers and
//! the flushing share. A file that nobody uses costs no memory and no descriptor.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::File,
    sync::{Arc, Mutex, PoisonError, Weak},
};

use tokio::sync::watch;

use super::{
    changes::Changes,
    disk::{Disk, lock},
    error::Result,
    name::{Digest, FileName},
    part::Part,
    sync::Schedule,
};

/// The entries in use, by name.
#[derive(Debug, Default)]
pub(super) struct Registry {
    entries: Mutex<Entries>,
    pub(super) changes: Changes,
}

#[derive(Debug, Default)]
struct Entries {
    in_use: BTreeMap<FileName, Weak<Entry>>,
    /// Bytes on disk of the parts that were in use and are not any more.
    flushed: BTreeMap<FileName, u64>,
}

impl Registry {
    /// The entry of a name.
    pub(super) fn entry(this: &Arc<Self>, name: FileName) -> Arc<Entry> {
        // An entry must not be dropped under this lock: its drop takes it too.
        let mut entries = lock(&this.entries);
        if let Some(entry) = entries.in_use.get(&name).and_then(Weak::upgrade) {
            return entry;
        }
        let entry = Arc::new(Entry {
            name,
            registry: Arc::clone(this),
            slot: Mutex::default(),
            schedule: Mutex::default(),
            progress: watch::Sender::new(Progress::default()),
            durability: watch::Sender::new(Durability::default()),
        });
        entries.in_use.insert(name, Arc::downgrade(&entry));
        entry
    }

    /// The entry of a name if it is in use.
    pub(super) fn in_use(&self, name: FileName) -> Option<Arc<Entry>> {
        lock(&self.entries).in_use.get(&name).and_then(Weak::upgrade)
    }

    /// Bytes on disk of a part that was in use and is not any more.
    pub(super) fn flushed(&self, name: FileName) -> Option<u64> {
        lock(&self.entries).flushed.get(&name).copied()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        lock(&self.entries).in_use.len()
    }
}

/// One file in use.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) name: FileName,
    registry: Arc<Registry>,
    /// Whoever changes the file on disk holds this, on a thread that may block.
    pub(super) slot: Mutex<Slot>,
    pub(super) schedule: Mutex<Schedule>,
    /// What readers may see.
    pub(super) progress: watch::Sender<Progress>,
    /// What a writer may count on.
    pub(super) durability: watch::Sender<Durability>,
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut entries = lock(&self.registry.entries);
        // Another entry may have taken the name since the last use of this one.
        if entries.in_use.get(&self.name).is_some_and(|entry| entry.strong_count() == 0) {
            entries.in_use.remove(&self.name);
            let slot = self.slot.get_mut().unwrap_or_else(PoisonError::into_inner);
            if matches!(slot.content, Content::Open(_)) {
                let durable = self.durability.borrow().length;
                entries.flushed.insert(self.name, durable);
                drop(entries);
                // Who looked just before has seen neither.
                self.changed();
            }
        }
    }
}

impl Entry {
    /// Tells who watches the store that something about the file is new.
    pub(super) fn changed(&self) {
        self.registry.changes.tell(self.name);
    }

    /// There is no part any more, or what is known of it no longer holds.
    pub(super) fn part_is_gone(&self) {
        lock(&self.registry.entries).flushed.remove(&self.name);
    }

    /// Gives the part up: what was not flushed may be lost and is cut off, so
    /// that nobody takes bytes for kept that only the page cache has.
    pub(super) fn fail(&self, disk: &dyn Disk, slot: &mut Slot) {
        let kept = self.durability.borrow().length;
        if let Content::Open(part) = &slot.content
            && let Some(file) = &part.file
            && let Err(error) = disk.set_len(&part.path, file, kept)
        {
            tracing::error!(file = %self.name, %error, "cannot cut off what was not flushed");
        }
        slot.content = Content::Failed;
        self.durability.send_modify(|durability| durability.lost = Some(Lost::SyncFailed));
        self.progress.send_modify(|progress| progress.length = Some(kept));
        self.changed();
    }

    /// Tells readers and writers that there is no such file any more.
    pub(super) fn forget(&self, slot: &mut Slot) {
        slot.content = Content::Removed;
        self.durability.send_modify(|durability| durability.lost = Some(Lost::Removed));
        self.progress.send_replace(Progress { length: None, end: Some(Ended::Removed) });
        self.part_is_gone();
        self.changed();
    }
}

/// The file on disk, and who may write it.
#[derive(Debug, Default)]
pub(super) struct Slot {
    /// Of a log, counts appenders; of an upload, how often it was opened from
    /// disk. Only appenders of the newest epoch may write.
    pub(super) epoch: u64,
    pub(super) content: Content,
}

#[derive(Debug, Default)]
pub(super) enum Content {
    /// Nobody asked to append yet.
    #[default]
    Closed,
    Open(Box<Part>),
    Sealed {
        length: u64,
        /// Known once it was asked for.
        digest: Option<Digest>,
    },
    Failed,
    Removed,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    /// Bytes that are whole; unknown while no appender has the file open.
    pub(super) length: Option<u64>,
    pub(super) end: Option<Ended>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    Sealed,
    Removed,
}

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Durability {
    /// The epoch of the appenders that this is about.
    pub(super) epoch: u64,
    /// Bytes on disk.
    pub(super) length: u64,
    pub(super) lost: Option<Lost>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Lost {
    SyncFailed,
    Removed,
}

/// Keeps the number of open growing files down.
#[derive(Debug)]
pub(super) struct Handles {
    most: usize,
    open: Mutex<VecDeque<Weak<Entry>>>,
}

impl Handles {
    pub(super) const fn new(most: usize) -> Self {
        Self { most, open: Mutex::new(VecDeque::new()) }
    }

    /// The part's file, opened if it was closed. `part` is that of `entry`,
    /// whose slot the caller holds.
    pub(super) fn file(&self, entry: &Arc<Entry>, part: &mut Part) -> Result<Arc<File>> {
        if let Some(file) = &part.file {
            return Ok(Arc::clone(file));
        }
        let file = part.open_file()?;
        self.opened(entry);
        Ok(file)
    }

    /// Takes note of an opened file, and closes the oldest ones beyond the limit
    /// that have nothing to flush. The caller holds the slot of `entry`.
    pub(super) fn opened(&self, entry: &Arc<Entry>) {
        let mut open = lock(&self.open);
        open.push_back(Arc::downgrade(entry));
        for _ in 0..open.len() {
            if open.len() <= self.most {
                break;
            }
            let Some(oldest) = open.pop_front() else { break };
            if let Some(entry) = oldest.upgrade()
                && !close_if_clean(&entry)
            {
                open.push_back(oldest);
            }
        }
    }
}

fn close_if_clean(entry: &Entry) -> bool {
    let Ok(mut slot) = entry.slot.try_lock() else { return false };
    match &mut slot.content {
        Content::Open(part) => {
            let clean = entry.durability.borrow().length == part.length;
            if clean {
                part.file = None;
            }
            clean
        }
        _ => true,
    }
}
