//! What is stored: looking at files, removing them, and the digests of sealed logs.

use std::{fs, path::Path, time::SystemTime};

use super::{
    Files, Inner,
    disk::{self, lock},
    entry::{Entry, Slot},
    error::{FilesError, Result},
    name::{Digest, FileName},
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

impl Files {
    /// Looks at a file; `None` when it is not stored here.
    ///
    /// # Errors
    /// [`FilesError::Io`], [`FilesError::Stopping`].
    pub async fn stat(&self, name: FileName) -> Result<Option<Stat>> {
        let files = self.clone();
        self.blocking(move || stat(&files.inner, name)).await
    }

    /// Removes a file, and says whether there was one. Its appender and its
    /// readers fail with [`FilesError::Removed`].
    ///
    /// # Errors
    /// [`FilesError::Io`], [`FilesError::Stopping`].
    pub async fn remove(&self, name: FileName) -> Result<bool> {
        let files = self.clone();
        self.blocking(move || {
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
        self.blocking(move || {
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
}

impl Inner {
    /// Removes a file whose slot the caller holds.
    fn remove(&self, entry: &Entry, slot: &mut Slot) -> Result<bool> {
        let removed = erase(self, entry.name)?;
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
pub(super) fn erase(inner: &Inner, name: FileName) -> Result<bool> {
    let (root, disk) = (&inner.root, &*inner.options.disk);
    let sealed = disk::remove(disk, &name.sealed_path(root))?;
    let part = disk::remove(disk, &name.part_path(root))?;
    if matches!(name, FileName::Log { .. }) {
        disk::remove(disk, &name.digest_path(root))?;
    }
    if sealed || part {
        disk::sync_folder(disk, &name.folder(root))?;
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
