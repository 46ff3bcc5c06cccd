//! Reading a file as plain bytes while it grows: how another node copies it.

use std::{fs::File, sync::Arc};

use bytes::Bytes;
use tokio::sync::watch;

use super::{
    Files, catalog, disk,
    entry::{Ended, Entry, Progress},
    error::{FilesError, Result},
    name::{Digest, FileName},
};

/// Bytes read at once.
const CHUNK: usize = 256 * 1024;

/// The bytes of one file in order, as they come.
#[derive(Debug)]
pub(crate) struct Follower {
    files: Files,
    /// Keeps the appender of this file, if one comes, on the same `progress`.
    entry: Arc<Entry>,
    progress: watch::Receiver<Progress>,
    file: Arc<File>,
    /// The length of a file that was found sealed.
    sealed: Option<u64>,
    offset: u64,
}

/// What a follower finds.
#[derive(Debug)]
pub(crate) enum Grown {
    /// Bytes that follow those before.
    Bytes(Bytes),
    /// The file is sealed, and this was all of it.
    End {
        /// Its length.
        length: u64,
        /// Its BLAKE3.
        digest: Digest,
    },
}

impl Files {
    /// Opens a file from `offset` on. One that is not sealed is read through and
    /// flushed first if nobody has since the start: what is no log is not passed on.
    ///
    /// # Errors
    /// [`FilesError::NotFound`]; [`FilesError::OffsetGap`] when it ends before
    /// `offset`; [`FilesError::Io`], [`FilesError::Stopping`].
    pub(crate) async fn follow(&self, name: FileName, offset: u64) -> Result<Follower> {
        let entry = self.inner.entry(name);
        let progress = entry.progress.subscribe();
        let files = self.clone();
        self.blocking(move || {
            let root = &files.inner.root;
            let failed =
                |source| FilesError::Io { action: "look at", path: name.to_string(), source };
            let (file, sealed) = match disk::open_read(&name.sealed_path(root))? {
                Some(file) => {
                    let length = file.metadata().map_err(failed)?.len();
                    (file, Some(length))
                }
                None => {
                    if !files.inner.reopen(&entry)? {
                        return Err(FilesError::NotFound(name));
                    }
                    // Sealed since, or still growing: the bytes are the same.
                    let file = match disk::open_read(&name.part_path(root))? {
                        Some(file) => Some(file),
                        None => disk::open_read(&name.sealed_path(root))?,
                    };
                    (file.ok_or(FilesError::NotFound(name))?, None)
                }
            };
            let length = sealed.or(entry.progress.borrow().length).unwrap_or(0);
            if offset > length {
                return Err(FilesError::OffsetGap { length });
            }
            let file = Arc::new(file);
            Ok(Follower { files: files.clone(), entry, progress, file, sealed, offset })
        })
        .await
    }
}

impl Follower {
    /// The next bytes, when there are some, or the end.
    ///
    /// # Errors
    /// [`FilesError::Removed`]; [`FilesError::OffsetGap`] when what was read is
    /// not there any more; [`FilesError::Io`], [`FilesError::Stopping`].
    pub(crate) async fn next(&mut self) -> Result<Grown> {
        let name = self.entry.name;
        loop {
            let progress = *self.progress.borrow_and_update();
            if progress.end == Some(Ended::Removed) {
                return Err(FilesError::Removed(name));
            }
            let ended = self.sealed.is_some() || progress.end == Some(Ended::Sealed);
            let length = self.sealed.or(progress.length).unwrap_or(self.offset);
            if length < self.offset {
                return Err(FilesError::OffsetGap { length });
            }
            if length > self.offset {
                return self.read(length).await.map(Grown::Bytes);
            }
            if ended {
                let files = self.files.clone();
                let digest = self
                    .files
                    .blocking(move || catalog::sealed_digest(&files.inner.root, name))
                    .await?;
                return Ok(Grown::End { length, digest });
            }
            self.progress.changed().await.map_err(|_| FilesError::Removed(name))?;
        }
    }

    async fn read(&mut self, length: u64) -> Result<Bytes> {
        let (name, file, offset) = (self.entry.name, Arc::clone(&self.file), self.offset);
        let want = usize::try_from(length - offset).unwrap_or(usize::MAX).min(CHUNK);
        let read = self.files.blocking(move || {
            disk::read_at(&file, offset, want).map_err(|source| FilesError::Io {
                action: "read",
                path: name.to_string(),
                source,
            })
        });
        let bytes = read.await?;
        if bytes.is_empty() {
            return Err(FilesError::OffsetGap { length: offset });
        }
        self.offset += bytes.len() as u64;
        Ok(bytes.into())
    }
}
