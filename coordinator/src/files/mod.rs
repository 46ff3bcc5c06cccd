//! Job output and uploads: append-only files with a name, written at explicit
//! offsets and sealed with their length and BLAKE3.
//!
//! Offsets make every retry harmless, and the seal makes a file's content final.
//! While it grows a file is `NAME.part`; sealing renames it, so that what has
//! its plain name is whole. What this node has on disk is [`Durable`], apart from
//! what readers see, which is every byte at once. Whether other nodes have it too is
//! none of its business: they are told what changes here (`changes`, `held`), copy
//! from here (`follow`) and into here (`copy`).
//!
//! This is the store of one node. It knows nothing of Raft, of sessions or of
//! who may read: a caller checks leases and tokens before it comes here.

mod append;
mod blocking;
mod catalog;
mod changes;
mod content;
mod disk;
mod entry;
mod error;
mod fill;
mod follow;
mod frames;
mod held;
mod index;
mod line_matcher;
mod listing;
mod log;
mod name;
mod part;
mod search;
mod start;
mod stored;
mod sync;

use std::{
    fmt,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::Duration,
};

pub use append::{Appender, Durable};
pub use catalog::Stat;
pub(crate) use changes::Names;
pub use content::ContentReader;
pub use disk::{Disk, SystemDisk};
pub use error::{FilesError, LogFault, Result};
pub(crate) use follow::{Follower, Grown};
pub(crate) use held::Held;
pub(crate) use line_matcher::LineMatcher;
pub use listing::{Listed, Listing};
pub use log::{Follow, LogItem, LogReader, Start, Stream, StreamFilter};
pub use name::{Digest, FileName, InvalidDigest};
pub(crate) use stored::{stored_name, stored_path};

use self::{
    disk::lock,
    entry::{Entry, Handles, Registry},
    start::IndexCache,
    sync::SyncQueue,
};
use crate::environment::{Blocking, Environment};

/// How a store behaves. The defaults suit a coordinator.
#[derive(Clone)]
pub struct FilesOptions {
    /// The least time between two flushes of one file.
    pub sync_interval: Duration,
    /// Threads that flush. Several, so that the file system can join their commits.
    /// With none, [`Files::flush_due`] alone flushes.
    pub sync_threads: usize,
    /// About how many growing files stay open; one with bytes to flush always does.
    pub open_files: usize,
    /// How many indexes of sealed logs stay in memory.
    pub cached_indexes: usize,
    /// Bytes of a log between two points of its index.
    pub index_spacing: u64,
    /// The most bytes of a log read at once.
    pub read_size: NonZeroUsize,
    /// Where work is done that waits for the disk.
    pub blocking: Arc<dyn Blocking>,
    /// The disk, as far as faults and crashes are concerned.
    pub disk: Arc<dyn Disk>,
}

impl fmt::Debug for FilesOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FilesOptions")
            .field("sync_interval", &self.sync_interval)
            .field("sync_threads", &self.sync_threads)
            .field("disk", &self.disk)
            .finish_non_exhaustive()
    }
}

impl Default for FilesOptions {
    fn default() -> Self {
        Self {
            sync_interval: Duration::from_millis(20),
            sync_threads: 8,
            open_files: 256,
            cached_indexes: 64,
            index_spacing: 256 * 1024,
            read_size: NonZeroUsize::MIN.saturating_add(256 * 1024 - 1),
            blocking: Environment::system().blocking,
            disk: Arc::new(SystemDisk),
        }
    }
}

/// A store of files. Clones are the same store.
///
/// When the last clone, appender and reader is gone, what was written is
/// flushed and the store's threads end; that blocks for as long as the disk takes.
/// A store without threads just ends, as in a crash.
#[derive(Clone, Debug)]
pub struct Files {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    options: FilesOptions,
    registry: Arc<Registry>,
    handles: Handles,
    indexes: IndexCache,
    queue: Arc<SyncQueue>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Files {
    /// Opens the store in the folder `root`, which is made if it is missing.
    /// Blocks for as long as the disk takes. One process may have it open once.
    ///
    /// # Errors
    /// [`FilesError::DiskFull`], [`FilesError::Io`].
    pub fn open(root: impl Into<PathBuf>, options: FilesOptions) -> Result<Self> {
        let root = root.into();
        for kind in name::KINDS {
            let folder = root.join(kind);
            std::fs::create_dir_all(&folder)
                .map_err(|error| FilesError::io("create", &folder, error))?;
        }
        disk::sync_folder(&*options.disk, &root)?;
        root.parent()
            .filter(|parent| *parent != Path::new(""))
            .map_or(Ok(()), |parent| disk::sync_folder(&*options.disk, parent))?;

        let (interval, disk) = (options.sync_interval, Arc::clone(&options.disk));
        let queue = Arc::new(SyncQueue::new(interval, root.clone(), disk));
        let files = Self {
            inner: Arc::new(Inner {
                registry: Arc::default(),
                handles: Handles::new(options.open_files),
                indexes: IndexCache::new(options.cached_indexes),
                queue: Arc::clone(&queue),
                threads: Mutex::default(),
                options,
                root,
            }),
        };
        for number in 0..files.inner.options.sync_threads {
            let queue = Arc::clone(&queue);
            let thread = std::thread::Builder::new()
                .name(format!("files-sync-{number}"))
                .spawn(move || queue.run())
                .map_err(|error| {
                    FilesError::io("start the flushing of", &files.inner.root, error)
                })?;
            lock(&files.inner.threads).push(thread);
        }
        Ok(files)
    }

    /// Flushes what is due now, on this thread; with threads of its own, the store
    /// does that by itself.
    pub fn flush_due(&self) {
        self.inner.queue.flush_due();
    }
}

impl Inner {
    fn entry(&self, name: FileName) -> Arc<Entry> {
        Registry::entry(&self.registry, name)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.stop();
        for thread in lock(&self.threads).drain(..) {
            if thread.join().is_err() {
                tracing::error!("a thread that flushes files had panicked");
            }
        }
    }
}

#[cfg(test)]
mod tests;
