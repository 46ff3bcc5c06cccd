//! Caches: files that stay on this runner from one job to the next.
//!
//! ```text
//! caches/p-PROJECT/ENTRY/record     its key and paths; when it was changed is when it was used
//! caches/p-PROJECT/ENTRY/content/   as in a work folder
//! caches-incoming/                what is being made, or on its way out
//! ```
//!
//! ENTRY follows from key and paths, so that two jobs that keep the same cache meet, and a
//! project sees no other's. Files are copied in and out: a job that changes what it got
//! changes nothing here. A cache is whole when it has its name, and one that is being read
//! is not removed. Only one process uses the folder, as the rest of the runner's.

mod index;
mod record;
#[cfg(test)]
mod tests;

use std::{
    fs,
    io::{self, ErrorKind},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use baton_client::tree::Creation;
use nix::{
    errno::Errno,
    fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::fstatat,
    unistd::syncfs,
};

use tracing::warn;

use self::{
    index::{Index, Name},
    record::Record,
};
use crate::{
    collect::{self, Choice, Limits, PickError, Picked, open_folder},
    untrusted,
};

const CONTENT: &str = "content";
/// Files, folders and links that one cache may have.
const FILES_MAX: u64 = 1_000_000;

/// The caches of a runner. Cheap to clone. Its calls wait for the disk.
#[derive(Clone)]
pub(crate) struct Caches(Arc<Shared>);

struct Shared {
    dir: PathBuf,
    incoming: PathBuf,
    /// Bytes that all of them may have.
    limit: u64,
    index: Mutex<Index>,
    drafts: AtomicU64,
}

/// A cache as a job asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) project: &'a str,
    pub(crate) key: &'a str,
    pub(crate) paths: &'a [String],
}

/// What was put into a work folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Restored {
    /// The key of the cache that it is from.
    pub(crate) key: String,
    pub(crate) bytes: u64,
    /// The paths that had something already, which stayed.
    pub(crate) taken: Vec<String>,
}

/// What came of keeping a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Saved {
    /// So many bytes.
    Kept(u64),
    /// There is one of that key already.
    Known,
    /// There is nothing at its paths.
    Nothing,
    /// It has more bytes than all caches together may have.
    TooLarge,
}

/// Why a cache could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CacheError {
    #[error("{0}")]
    Choice(String),
    #[error(transparent)]
    Pick(#[from] PickError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CacheError {
    /// It is the job's folder, not the cache.
    fn is_for_want_of_room(&self) -> bool {
        let Self::Io(error) = self else { return false };
        matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
    }
}

impl Caches {
    /// The caches in the runner's data folder.
    pub(crate) fn open(data: &Path, limit: u64) -> io::Result<Self> {
        let (dir, incoming) = (data.join("caches"), data.join("caches-incoming"));
        untrusted::remove(&incoming)?;
        let index = Mutex::new(Index::read(&dir)?);
        let drafts = AtomicU64::new(0);
        Ok(Self(Arc::new(Shared { dir, incoming, limit, index, drafts })))
    }

    /// Copies the best cache that there is into the folder `work`: the one of the key, or
    /// else the newest whose key begins with the first of `fallbacks` that fits. What is
    /// there already stays as it is. One that cannot be read is removed, so that the next
    /// attempt does without. `now` is in microseconds since the epoch.
    pub(crate) fn restore(
        &self,
        wanted: Wanted<'_>,
        fallbacks: &[String],
        work: &OwnedFd,
        now: u64,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Option<Restored>, CacheError> {
        let Some(reading) = self.begin_reading(wanted, fallbacks, now) else { return Ok(None) };
        let restored = self.read(&reading, wanted.paths, work, now, stopped);
        if let Err(error) = &restored
            && !stopped()
            && !error.is_for_want_of_room()
            && let Err(error) = self.forget(&reading.name)
        {
            warn!(%error, "a cache that cannot be read stays");
        }
        restored.map(Some)
    }

    fn read(
        &self,
        reading: &Reading,
        paths: &[String],
        work: &OwnedFd,
        now: u64,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Restored, CacheError> {
        let folder = self.folder(&reading.name);
        let from = open_folder(&folder.join(CONTENT))?;
        let limits = Limits { bytes: u64::MAX, files: FILES_MAX };
        let mut restored = Restored { key: reading.key.clone(), bytes: 0, taken: Vec::new() };
        for path in paths {
            if is_taken(work, path) {
                restored.taken.push(path.clone());
                continue;
            }
            let choice =
                Choice::of_paths(std::slice::from_ref(path)).map_err(CacheError::Choice)?;
            let picked = collect::pick(&from, &choice, limits, stopped)?;
            let mut to = Creation::within(work.try_clone()?, FILES_MAX);
            restored.bytes +=
                collect::copy(&from, &picked, &mut to, stopped).map_err(io::Error::from)?;
        }
        // It only tells what to remove first.
        let _ = record::touch(&folder, now);
        Ok(restored)
    }

    /// There is a cache of exactly this key.
    pub(crate) fn has(&self, wanted: Wanted<'_>) -> bool {
        self.index().has(&Name::of(wanted))
    }

    /// Removes a cache that cannot be read.
    fn forget(&self, name: &Name) -> io::Result<()> {
        let mut index = self.index();
        index.remove(name);
        let draft = self.withdraw(name)?;
        drop(index);
        untrusted::remove(&draft)
    }

    /// Keeps what there is at the paths in the folder `work`, unless it is known. Of two at
    /// once the first that is whole counts.
    pub(crate) fn save(
        &self,
        wanted: Wanted<'_>,
        work: &OwnedFd,
        now: u64,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Saved, CacheError> {
        if self.has(wanted) {
            return Ok(Saved::Known);
        }
        let choice = Choice::of_paths(wanted.paths).map_err(CacheError::Choice)?;
        let limits = Limits { bytes: self.0.limit, files: FILES_MAX };
        let picked = match collect::pick(work, &choice, limits, stopped) {
            Err(PickError::TooLarge(_)) => return Ok(Saved::TooLarge),
            picked => picked?,
        };
        if picked.is_empty() {
            return Ok(Saved::Nothing);
        }
        let draft = self.draft();
        let saved = self.fill(&draft, wanted, work, &picked, now, stopped);
        // What got its name is there no more.
        untrusted::remove(&draft)?;
        saved
    }

    /// Removes caches, those first that were not used for the longest time, until so many
    /// bytes are free or none is left that is not being read; how many that were.
    ///
    /// # Errors
    /// The first, after all was tried.
    pub(crate) fn reclaim(&self, bytes: u64) -> io::Result<u64> {
        let (mut freed, mut gone, mut done) = (0, Vec::new(), Ok(()));
        {
            let mut index = self.index();
            while freed < bytes
                && let Some((name, size)) = index.take_oldest()
            {
                match self.withdraw(&name) {
                    Ok(draft) => gone.push(draft),
                    // A job on this host has removed it.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    Err(error) => {
                        done = done.and(Err(error));
                        continue;
                    }
                }
                freed += size;
            }
        }
        for draft in gone {
            done = done.and(untrusted::remove(&draft));
        }
        done.map(|()| freed)
    }

    fn fill(
        &self,
        draft: &Path,
        wanted: Wanted<'_>,
        work: &OwnedFd,
        picked: &[Picked],
        now: u64,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Saved, CacheError> {
        let content = draft.join(CONTENT);
        untrusted::make_folder(&content)?;
        let mut to = Creation::within(open_folder(&content)?, FILES_MAX);
        let bytes = collect::copy(work, picked, &mut to, stopped).map_err(io::Error::from)?;
        let (key, paths) = (wanted.key.to_owned(), wanted.paths.to_vec());
        let record = Record { key, paths, bytes, saved_at: now };
        record.write(draft)?;
        // Also after a loss of power, what has its name is whole.
        syncfs(&open_folder(draft)?).map_err(io::Error::from)?;
        let all = self.index().bytes();
        self.reclaim(all.saturating_add(bytes).saturating_sub(self.0.limit))?;
        let name = Name::of(wanted);
        let mut index = self.index();
        if index.has(&name) {
            return Ok(Saved::Known);
        }
        let folder = self.folder(&name);
        // What cannot be read is none.
        untrusted::remove(&folder)?;
        untrusted::make_folder(folder.parent().unwrap_or(&self.0.dir))?;
        fs::rename(draft, &folder)?;
        index.add(name, record, now);
        Ok(Saved::Kept(bytes))
    }

    fn begin_reading(&self, wanted: Wanted<'_>, fallbacks: &[String], now: u64) -> Option<Reading> {
        let mut index = self.index();
        let name = index.best(wanted, fallbacks)?;
        let (key, readers) = index.begin_reading(&name, now)?;
        Some(Reading { name, key, _readers: readers })
    }

    /// Takes its name away from a cache: whoever reads it goes on.
    fn withdraw(&self, name: &Name) -> io::Result<PathBuf> {
        let draft = self.draft();
        untrusted::make_folder(&self.0.incoming)?;
        fs::rename(self.folder(name), &draft)?;
        Ok(draft)
    }

    fn draft(&self) -> PathBuf {
        self.0.incoming.join(self.0.drafts.fetch_add(1, Ordering::Relaxed).to_string())
    }

    fn folder(&self, name: &Name) -> PathBuf {
        self.0.dir.join(index::folder_of(&name.project)).join(&name.entry)
    }

    fn index(&self) -> MutexGuard<'_, Index> {
        self.0.index.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A cache that stays while this lives.
struct Reading {
    name: Name,
    key: String,
    _readers: Arc<()>,
}

/// Something is at the path in the folder, or on the way to it, that cannot be replaced.
fn is_taken(work: &OwnedFd, path: &str) -> bool {
    let path = baton_proto::globs::plain(path);
    let (folders, name) = path.rsplit_once('/').unwrap_or((".", &path));
    let inside = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS;
    let how = OpenHow::new().flags(OFlag::O_PATH | OFlag::O_CLOEXEC).resolve(inside);
    match openat2(work, folders, how) {
        Ok(folder) => fstatat(&folder, name, AtFlags::AT_SYMLINK_NOFOLLOW) != Err(Errno::ENOENT),
        Err(error) => error != Errno::ENOENT,
    }
}
