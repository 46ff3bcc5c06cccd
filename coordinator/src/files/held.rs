//! What this node has of a file, as it tells the other members.

use std::time::SystemTime;

use super::{
    Files, Inner, catalog,
    disk::{self, lock},
    error::{FilesError, Result},
    name::{Digest, FileName},
};

/// What a node has of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Held {
    /// Bytes that can be read.
    pub(crate) length: u64,
    /// Bytes that are on disk; `None` for a file that is not sealed and was not
    /// opened since the start, of which some may be in the page cache alone.
    pub(crate) durable: Option<u64>,
    /// Of a sealed file, its BLAKE3.
    pub(crate) sealed: Option<Digest>,
    /// When it was last written, or last wanted.
    pub(crate) modified: SystemTime,
}

impl Files {
    /// What is here of each of these files; `None` for nothing.
    ///
    /// # Errors
    /// [`FilesError::Io`], [`FilesError::Stopping`].
    pub(crate) async fn held(&self, names: Vec<FileName>) -> Result<Vec<(FileName, Option<Held>)>> {
        let files = self.clone();
        self.blocking(move || {
            names.into_iter().map(|name| Ok((name, held(&files.inner, name)?))).collect()
        })
        .await
    }

    /// What is here of one file.
    ///
    /// # Errors
    /// As [`Files::held`].
    pub(crate) async fn holds(&self, name: FileName) -> Result<Option<Held>> {
        let files = self.clone();
        self.blocking(move || held(&files.inner, name)).await
    }

    /// Whether the bytes of a sealed file are those of the digest. Reads all of it.
    ///
    /// # Errors
    /// [`FilesError::NotFound`], [`FilesError::Io`], [`FilesError::Stopping`].
    pub(crate) async fn is_intact(&self, name: FileName, digest: Digest) -> Result<bool> {
        let path = name.sealed_path(&self.inner.root);
        self.blocking(move || Ok(catalog::read_digest(name, &path)? == digest)).await
    }

    /// Says of a sealed file that it was wanted at `time`, unless it was later.
    ///
    /// # Errors
    /// [`FilesError::Io`], [`FilesError::Stopping`].
    pub(crate) async fn renew(&self, name: FileName, time: SystemTime) -> Result<()> {
        let (files, entry) = (self.clone(), self.inner.entry(name));
        self.blocking(move || {
            let slot = lock(&entry.slot);
            let path = name.sealed_path(&files.inner.root);
            let failed = |error| FilesError::io("renew", &path, error);
            let Some(file) = disk::open_write(&path)? else { return Ok(()) };
            if file.metadata().and_then(|metadata| metadata.modified()).map_err(failed)? < time {
                file.set_modified(time).map_err(failed)?;
                drop(slot);
                entry.changed();
            }
            Ok(())
        })
        .await
    }
}

fn held(inner: &Inner, name: FileName) -> Result<Option<Held>> {
    let (sealed, part) = (name.sealed_path(&inner.root), name.part_path(&inner.root));
    // A file that is sealed between the two looks is found by the third.
    for (path, is_sealed) in [(&sealed, true), (&part, false), (&sealed, true)] {
        let Some(metadata) = disk::metadata(path)? else { continue };
        let modified =
            metadata.modified().map_err(|error| FilesError::io("look at", path, error))?;
        let growing = growing(inner, name);
        if is_sealed && growing.is_none() {
            let digest = match catalog::sealed_digest(&inner.root, name) {
                Err(FilesError::NotFound(_)) => return Ok(None),
                digest => digest?,
            };
            let length = metadata.len();
            let durable = Some(length);
            return Ok(Some(Held { length, durable, sealed: Some(digest), modified }));
        }
        let (length, durable) = match growing {
            Some((length, durable)) => (length, Some(durable)),
            None => (metadata.len(), inner.registry.flushed(name)),
        };
        return Ok(Some(Held { length, durable, sealed: None, modified }));
    }
    Ok(None)
}

/// Length and durable length of a file that somebody has opened to write, until its
/// seal is on disk.
fn growing(inner: &Inner, name: FileName) -> Option<(u64, u64)> {
    let entry = inner.registry.in_use(name)?;
    // In this order, so that no more seems to be on disk than there is.
    let durable = entry.durability.borrow().length;
    let progress = *entry.progress.borrow();
    let length = progress.length.filter(|_| progress.end.is_none())?;
    Some((length, durable.min(length)))
}
