//! What is stored: looking at files, listing them for retention, removing them,
//! and the digests of sealed logs.

use std::{
    fs::{self, DirEntry},
    path::Path,
    time::SystemTime,
};

use tokio::{sync::mpsc, task::JoinHandle};

use super::{
    Files, Inner,
    disk::{self, blocking, lock},
    entry::{Entry, Slot},
    error::{FilesError, Result},
    name::{Digest, FileName, KINDS},
};

/// What is known of a file without reading it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stat {
    /// Its length in bytes.
    pub length: u64,
    /// Whether it is final.
    pub sealed: bool,
    /// Of a sealed file, the BLAKE3; `None` where finding out takes reading it.
    pub digest: Option<Digest>,
    /// When it was last written, by the clock of this node's file system.
    pub modified: SystemTime,
}

/// A file in a [`Listing`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Which file.
    pub name: FileName,
    /// Its length in bytes.
    pub length: u64,
    /// Whether it is final.
    pub sealed: bool,
    /// When it was last written.
    pub modified: SystemTime,
}

/// All files, in no order. Files that come or go meanwhile may or may not be in it.
#[derive(Debug)]
pub struct Listing {
    listed: mpsc::Receiver<Result<Listed>>,
    _walk: JoinHandle<()>,
}

impl Listing {
    /// The next file; `None` after the last.
    ///
    /// # Errors
    /// [`FilesError::Io`]; the listing ends there.
    pub async fn next(&mut self) -> Result<Option<Listed>> {
        self.listed.recv().await.transpose()
    }
}

impl Files {
    /// Looks at a file; `None` when it is not stored here.
    ///
    /// # Errors
    /// [`FilesError::Io`], [`FilesError::Stopping`].
    pub async fn stat(&self, name: FileName) -> Result<Option<Stat>> {
        let files = self.clone();
        blocking(move || stat(&files.inner, name)).await
    }

    /// Removes a file, and says whether there was one. Its appender and its
    /// readers fail with [`FilesError::Removed`].
    ///
    /// # Errors
    /// [`FilesError::Io`], [`FilesError::Stopping`].
    pub async fn remove(&self, name: FileName) -> Result<bool> {
        let files = self.clone();
        blocking(move || {
            let entry = files.inner.entry(name);
            let mut slot = lock(&entry.slot);
            files.inner.remove(&entry, &mut slot)
        })
        .await
    }

    /// As [`Files::remove`], unless the file was written, or wanted, after `modified`.
    ///
    /// # Errors
    /// As [`Files::remove`].
    pub(crate) async fn remove_as_of(&self, name: FileName, modified: SystemTime) -> Result<bool> {
        let files = self.clone();
        blocking(move || {
            let entry = files.inner.entry(name);
            // Held, so that it is not renewed between the look and the removal.
            let mut slot = lock(&entry.slot);
            let root = &files.inner.root;
            for path in [name.sealed_path(root), name.part_path(root)] {
                let Some(metadata) = disk::metadata(&path)? else { continue };
                let failed = |error| FilesError::io("look at", &path, error);
                if metadata.modified().map_err(failed)? > modified {
                    return Ok(false);
                }
            }
            files.inner.remove(&entry, &mut slot)
        })
        .await
    }

    /// Lists all files: what retention and garbage collection go by. The walk
    /// goes on only as fast as the listing is read, and ends when it is dropped.
    #[must_use]
    pub fn list(&self) -> Listing {
        let (sender, listed) = mpsc::channel(256);
        let root = self.inner.root.clone();
        let walk = tokio::task::spawn_blocking(move || {
            if let Err(error) = walk(&root, &sender) {
                // Nobody reads on: then nobody misses the error either.
                let _ = sender.blocking_send(Err(error));
            }
        });
        Listing { listed, _walk: walk }
    }
}

impl Inner {
    /// Removes a file whose slot the caller holds.
    fn remove(&self, entry: &Entry, slot: &mut Slot) -> Result<bool> {
        let removed = erase(&self.root, entry.name)?;
        self.indexes.remove(entry.name);
        entry.forget(slot);
        Ok(removed)
    }
}

fn stat(inner: &Inner, name: FileName) -> Result<Option<Stat>> {
    let sealed = name.sealed_path(&inner.root);
    // A file that is sealed between the two looks is found by the third.
    let part = name.part_path(&inner.root);
    for (path, is_sealed) in [(&sealed, true), (&part, false), (&sealed, true)] {
        let Some(metadata) = disk::metadata(path)? else { continue };
        // While it is written, the file may be longer than what is whole.
        let growing = inner.registry.in_use(name).filter(|_| !is_sealed);
        let length = growing.and_then(|entry| entry.progress.borrow().length);
        return Ok(Some(Stat {
            length: length.unwrap_or(metadata.len()),
            sealed: is_sealed,
            digest: match name {
                _ if !is_sealed => None,
                FileName::Upload { digest } => Some(digest),
                FileName::Log { .. } => remembered_digest(&inner.root, name),
            },
            modified: metadata
                .modified()
                .map_err(|error| FilesError::io("look at", path, error))?,
        }));
    }
    Ok(None)
}

/// Removes what is on disk of a file.
pub(super) fn erase(root: &Path, name: FileName) -> Result<bool> {
    let sealed = disk::remove(&name.sealed_path(root))?;
    let part = disk::remove(&name.part_path(root))?;
    if matches!(name, FileName::Log { .. }) {
        disk::remove(&name.digest_path(root))?;
    }
    if sealed || part {
        disk::sync_folder(&name.folder(root))?;
    }
    Ok(sealed || part)
}

/// Keeps a sealed log's digest beside it. It saves reading the log and is no
/// more than that, so it is not flushed and may fail.
pub(super) fn remember_digest(root: &Path, name: FileName, digest: Digest) {
    if matches!(name, FileName::Upload { .. }) {
        return;
    }
    let path = name.digest_path(root);
    if let Err(error) = fs::write(&path, digest.to_string()) {
        tracing::debug!(file = %name, %error, "cannot keep the digest");
        // A shorter text is no digest, so what may be left cannot mislead.
        let _ = fs::remove_file(&path);
    }
}

fn remembered_digest(root: &Path, name: FileName) -> Option<Digest> {
    fs::read_to_string(name.digest_path(root)).ok()?.parse().ok()
}

/// The digest of a sealed file, found by reading it if need be.
pub(super) fn sealed_digest(root: &Path, name: FileName) -> Result<Digest> {
    if let FileName::Upload { digest } = name {
        return Ok(digest);
    }
    if let Some(digest) = remembered_digest(root, name) {
        return Ok(digest);
    }
    let digest = read_digest(name, &name.sealed_path(root))?;
    remember_digest(root, name, digest);
    Ok(digest)
}

/// The digest of what a file at `path` has.
pub(super) fn read_digest(name: FileName, path: &Path) -> Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    let file = disk::open_read(path)?.ok_or(FilesError::NotFound(name))?;
    hasher.update_reader(file).map_err(|error| FilesError::io("read", path, error))?;
    Ok(hasher.finalize().into())
}

/// Sends every file, until nobody receives them any more.
fn walk(root: &Path, sender: &mpsc::Sender<Result<Listed>>) -> Result<()> {
    for kind in KINDS {
        for shard in folder(&root.join(kind))? {
            if !shard.path().is_dir() {
                continue;
            }
            for file in folder(&shard.path())? {
                if let Some(listed) = listed(kind, &file)?
                    && sender.blocking_send(Ok(listed)).is_err()
                {
                    return Ok(());
                }
            }
        }
    }
    Ok(())
}

fn folder(path: &Path) -> Result<Vec<DirEntry>> {
    fs::read_dir(path)
        .and_then(Iterator::collect)
        .map_err(|error| FilesError::io("list", path, error))
}

fn listed(kind: &str, file: &DirEntry) -> Result<Option<Listed>> {
    let path = file.path();
    let name = file.file_name().to_str().and_then(|file| FileName::from_path(kind, file));
    let Some((name, sealed)) = name else { return Ok(None) };
    // Sealed or removed since the folder was read.
    let Some(metadata) = disk::metadata(&path)? else { return Ok(None) };
    let modified = metadata.modified().map_err(|error| FilesError::io("look at", &path, error))?;
    Ok(Some(Listed { name, length: metadata.len(), sealed, modified }))
}
