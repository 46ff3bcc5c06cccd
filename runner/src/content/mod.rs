//! Chunks of trees that earlier jobs brought, kept for later ones. Any of them may go at
//! any time, save those that somebody holds; and none is believed to be what its name
//! says: that is checked when it is put in, and by whoever reads it.

mod index;
#[cfg(test)]
mod tests;

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use blake3::Hash;
use nix::sys::{stat::futimens, time::TimeSpec};
use tracing::warn;

use self::index::Index;
use crate::untrusted;

/// The folder for what is being written.
const NEW: &str = "new";

/// A store of chunks in a folder of its own. Cheap to clone. Its calls block.
#[derive(Clone)]
pub struct ContentStore(Arc<Shared>);

struct Shared {
    root: PathBuf,
    /// Bytes of all chunks, besides those that are held.
    limit: u64,
    index: Mutex<Index>,
    /// A name for the next file that is written.
    next: AtomicU64,
}

/// Keeps some chunks from going, those that are yet to come among them.
pub struct Hold {
    store: ContentStore,
    digests: Vec<Hash>,
}

impl ContentStore {
    /// The store in the folder `root`, which is made if it is missing and belongs to this
    /// process alone.
    ///
    /// # Errors
    /// What the system said.
    pub fn open(root: PathBuf, limit: u64) -> io::Result<Self> {
        untrusted::make_folder(&root)?;
        let new = root.join(NEW);
        untrusted::remove(&new)?;
        untrusted::make_folder(&new)?;
        let mut found = chunks(&root)?;
        found.sort_by_key(|(_, _, used)| *used);
        let mut index = Index::default();
        for (digest, length, _) in found {
            index.put(digest, length);
        }
        let store = Self(Arc::new(Shared {
            root,
            limit,
            index: Mutex::new(index),
            next: AtomicU64::new(0),
        }));
        store.trim();
        Ok(store)
    }

    /// Keeps these from going until what this gives is dropped.
    #[must_use]
    pub fn hold(&self, digests: impl IntoIterator<Item = Hash>) -> Hold {
        let digests: Vec<Hash> = digests.into_iter().collect();
        let mut index = self.index();
        digests.iter().for_each(|digest| index.hold(*digest));
        Hold { store: self.clone(), digests }
    }

    /// Whether there is such a chunk.
    #[must_use]
    pub fn has(&self, digest: Hash) -> bool {
        self.index().has(digest)
    }

    /// Puts a chunk in, and others out when there are more bytes than there may be.
    ///
    /// # Errors
    /// `InvalidData` when the bytes are not what the digest says; or what the system said.
    pub fn put(&self, digest: Hash, bytes: &[u8]) -> io::Result<()> {
        if blake3::hash(bytes) != digest {
            return Err(io::Error::new(ErrorKind::InvalidData, "a chunk is not what it should be"));
        }
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let new = self.0.root.join(NEW).join(number.to_string());
        let path = self.path(digest);
        let written = write(&new, bytes).and_then(|()| match fs::rename(&new, &path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                path.parent().map_or(Ok(()), untrusted::make_folder)?;
                fs::rename(&new, &path)
            }
            renamed => renamed,
        });
        if let Err(error) = written {
            // It may not even have been made.
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        self.index().put(digest, bytes.len() as u64);
        self.trim();
        Ok(())
    }

    /// Opens a chunk, which may be damaged; none when there is none.
    ///
    /// # Errors
    /// What the system said.
    pub fn read(&self, digest: Hash) -> io::Result<Option<File>> {
        let file = match untrusted::open_to_read(&self.path(digest)) {
            Ok(file) => file,
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        if self.index().touch(digest) {
            // For whoever opens the store the next time; it is no loss if it cannot be noted.
            let _ = futimens(&file, &TimeSpec::UTIME_OMIT, &TimeSpec::UTIME_NOW);
        }
        Ok(Some(file))
    }

    /// Removes a chunk, whatever is in its place.
    ///
    /// # Errors
    /// What the system said.
    pub fn remove(&self, digest: Hash) -> io::Result<()> {
        self.index().remove(digest);
        untrusted::remove(&self.path(digest))
    }

    /// Removes what was not used for the longest time until so many bytes are free; gives
    /// how many that are. What is held stays.
    pub fn reclaim(&self, bytes: u64) -> u64 {
        let mut freed = 0;
        while freed < bytes {
            let Some((digest, length)) = self.index().take_oldest() else { break };
            self.remove_file(digest);
            freed += length;
        }
        freed
    }

    /// Removes what is beyond the limit.
    pub fn trim(&self) {
        let beyond = self.index().bytes().saturating_sub(self.0.limit);
        self.reclaim(beyond);
    }

    fn remove_file(&self, digest: Hash) {
        if let Err(error) = untrusted::remove(&self.path(digest)) {
            warn!(chunk = %digest.to_hex(), %error, "a chunk that has to go stays");
        }
    }

    fn path(&self, digest: Hash) -> PathBuf {
        let name = digest.to_hex();
        self.0.root.join(&name[..2]).join(name.as_str())
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.0.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut index = self.store.index();
        self.digests.iter().for_each(|digest| index.release(*digest));
    }
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    File::create_new(path)?.write_all(bytes)
}

/// All chunks in a store's folder, with their lengths and when they were used last.
fn chunks(root: &Path) -> io::Result<Vec<(Hash, u64, SystemTime)>> {
    let mut chunks = Vec::new();
    for folder in fs::read_dir(root)? {
        let folder = folder?;
        if folder.file_name() == NEW || !folder.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path())? {
            let file = file?;
            let digest = file.file_name().to_str().and_then(|name| Hash::from_hex(name).ok());
            if let Some(digest) = digest {
                let metadata = file.metadata()?;
                chunks.push((digest, metadata.len(), metadata.modified()?));
            }
        }
    }
    Ok(chunks)
}
