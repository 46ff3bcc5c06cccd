//! What the log is written to: keys and entries, each write whole or not at all.
//! raft-engine in a coordinator, memory that can be torn in the simulator. Knows
//! nothing of what the keys mean.

use std::{path::Path, sync::Arc};

use baton_state::Index;
use raft::eraftpb::Entry;
use raft_engine::{
    Command, Config, Engine as RaftEngine, LogBatch, MessageExt, ReadableSize,
    env::DefaultFileSystem, internals::FilePipeLog,
};

use super::{
    RaftError,
    fail_stop::FailStop,
    flushed::{Disk, settle},
    verify::verify,
};

/// Files of the log beyond which those that were given up are removed.
const FILES: u64 = 4;
/// raft-engine keeps groups of keys and entries apart. The keys are in this one.
const META: u64 = 1;

/// Why something could not be read or written.
pub type EngineError = Box<dyn std::error::Error + Send + Sync>;

/// One write.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    /// Keys and their new values.
    pub puts: Vec<(&'static str, Vec<u8>)>,
    /// Entries of a group. They take the place of those there from the first one's
    /// index on.
    pub entries: Option<(u64, Vec<Entry>)>,
    /// A group loses its entries before this index.
    pub compact: Option<(u64, Index)>,
    /// A group loses all its entries.
    pub clean: Option<u64>,
}

impl Batch {
    /// It writes nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.puts.is_empty()
            && self.entries.is_none()
            && self.compact.is_none()
            && self.clean.is_none()
    }
}

/// Keys, and groups of entries with growing indexes.
pub trait Engine: Send {
    /// Writes a batch; with `sync` it and everything before it is on disk when this
    /// returns.
    ///
    /// # Errors
    /// Nothing more may be written then: whether this was is not known.
    fn write(&mut self, batch: Batch, sync: bool) -> Result<(), EngineError>;

    /// The value of a key.
    fn get(&self, key: &str) -> Option<Vec<u8>>;

    /// Nothing was ever written.
    fn is_empty(&self) -> bool;

    /// The first entry of a group.
    fn first_index(&self, group: u64) -> Option<Index>;

    /// The last entry of a group.
    fn last_index(&self, group: u64) -> Option<Index>;

    /// One entry of a group.
    ///
    /// # Errors
    /// When it cannot be read.
    fn entry(&self, group: u64, index: Index) -> Result<Option<Entry>, EngineError>;

    /// The entries of a group from `low` to before `high`: as many as have no more
    /// than `max_size` bytes, and at least one.
    ///
    /// # Errors
    /// When they cannot be read, or one of them is not there.
    fn entries(
        &self,
        group: u64,
        low: Index,
        high: Index,
        max_size: Option<usize>,
    ) -> Result<Vec<Entry>, EngineError>;

    /// Removes files that hold nothing but what is gone.
    ///
    /// # Errors
    /// When that fails.
    fn purge(&mut self) -> Result<(), EngineError>;
}

struct EntryCodec;

impl MessageExt for EntryCodec {
    type Entry = Entry;

    fn index(entry: &Entry) -> u64 {
        entry.index
    }
}

type Log<D> = RaftEngine<FailStop<D>, FilePipeLog<FailStop<D>>>;

/// raft-engine on a disk.
struct OnDisk<D: Disk> {
    engine: Log<D>,
    files: Arc<FailStop<D>>,
}

/// Opens raft-engine in the folder `dir`, after a look for damage.
pub(super) fn open(dir: &Path, file_bytes: u64) -> Result<Box<dyn Engine>, RaftError> {
    open_on(dir, file_bytes, Arc::new(DefaultFileSystem))
}

/// As [`open`], on any disk.
pub(super) fn open_on<D: Disk>(
    dir: &Path,
    file_bytes: u64,
    disk: Arc<D>,
) -> Result<Box<dyn Engine>, RaftError> {
    let failed = |source: EngineError| RaftError::Log { dir: dir.to_owned(), source };
    settle(&*disk, dir).map_err(|error| failed(error.into()))?;
    verify(dir)?;
    let config = Config {
        dir: dir.to_string_lossy().into_owned(),
        target_file_size: ReadableSize(file_bytes),
        purge_threshold: ReadableSize(file_bytes * FILES),
        // No checksum covers the byte that says whether a record is compressed.
        batch_compression_threshold: ReadableSize(0),
        // A page that was never written must not have an older file's records.
        enable_log_recycle: false,
        recovery_threads: 2,
        ..Config::default()
    };
    let files = Arc::new(FailStop::new(disk));
    let engine = RaftEngine::open_with_file_system(config, Arc::clone(&files))
        .map_err(|error| failed(error.into()))?;
    // raft-engine may have made the folder.
    dir.parent()
        .map_or(Ok(()), |parent| files.flush_folder(parent))
        .map_err(|e| failed(e.into()))?;
    files.check().map_err(|failure| failed(failure.into()))?;
    Ok(Box::new(OnDisk { engine, files }))
}

impl<D: Disk> OnDisk<D> {
    /// Has raft-engine change something, unless something has failed before.
    fn change<T>(
        &self,
        action: &'static str,
        change: impl FnOnce(&Log<D>) -> raft_engine::Result<T>,
    ) -> Result<(), EngineError> {
        self.files.check()?;
        if let Err(error) = change(&self.engine) {
            self.files.fail(action, &error);
        }
        Ok(self.files.check()?)
    }
}

impl<D: Disk> Engine for OnDisk<D> {
    fn write(&mut self, batch: Batch, sync: bool) -> Result<(), EngineError> {
        let mut log = LogBatch::default();
        for (key, value) in batch.puts {
            log.put(META, key.as_bytes().to_vec(), value)?;
        }
        if let Some((group, entries)) = batch.entries {
            log.add_entries::<EntryCodec>(group, &entries)?;
        }
        if let Some((group, index)) = batch.compact {
            log.add_command(group, Command::Compact { index });
        }
        if let Some(group) = batch.clean {
            log.add_command(group, Command::Clean);
        }
        self.change("write to the log", |engine| engine.write(&mut log, sync))
    }

    fn get(&self, key: &str) -> Option<Vec<u8>> {
        self.engine.get(META, key.as_bytes())
    }

    fn is_empty(&self) -> bool {
        self.engine.is_empty()
    }

    fn first_index(&self, group: u64) -> Option<Index> {
        self.engine.first_index(group)
    }

    fn last_index(&self, group: u64) -> Option<Index> {
        self.engine.last_index(group)
    }

    fn entry(&self, group: u64, index: Index) -> Result<Option<Entry>, EngineError> {
        Ok(self.engine.get_entry::<EntryCodec>(group, index)?)
    }

    fn entries(
        &self,
        group: u64,
        low: Index,
        high: Index,
        max_size: Option<usize>,
    ) -> Result<Vec<Entry>, EngineError> {
        let mut entries = Vec::new();
        self.engine.fetch_entries_to::<EntryCodec>(group, low, high, max_size, &mut entries)?;
        Ok(entries)
    }

    fn purge(&mut self) -> Result<(), EngineError> {
        self.change("remove old files of the log", RaftEngine::purge_expired_files)
    }
}
