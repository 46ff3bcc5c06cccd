//! Reading a sealed file as plain bytes: how a runner fetches an archive.

use std::{fs::File, sync::Arc};

use bytes::Bytes;

use super::{
    Files, disk,
    error::{FilesError, Result},
    name::FileName,
};

impl Files {
    /// Opens a sealed file for reading from `offset`.
    ///
    /// # Errors
    /// [`FilesError::NotFound`], also for a file that is not sealed yet;
    /// [`FilesError::OffsetGap`] when it ends before `offset`;
    /// [`FilesError::Io`], [`FilesError::Stopping`].
    pub async fn read(&self, name: FileName, offset: u64) -> Result<ContentReader> {
        let path = name.sealed_path(&self.inner.root);
        let files = self.clone();
        self.blocking(move || {
            let file = disk::open_read(&path)?.ok_or(FilesError::NotFound(name))?;
            let metadata = file.metadata();
            let length = metadata.map_err(|error| FilesError::io("look at", &path, error))?.len();
            if offset > length {
                return Err(FilesError::OffsetGap { length });
            }
            let hasher = (offset == 0).then(|| Box::new(blake3::Hasher::new()));
            Ok(ContentReader { files, name, file: Arc::new(file), offset, length, hasher })
        })
        .await
    }
}

/// The bytes of a sealed file, in order. It goes on although the file is removed meanwhile.
#[derive(Debug)]
pub struct ContentReader {
    files: Files,
    name: FileName,
    file: Arc<File>,
    offset: u64,
    length: u64,
    /// Of the bytes so far, if they began with the first.
    hasher: Option<Box<blake3::Hasher>>,
}

impl ContentReader {
    /// Where the next chunk starts.
    #[must_use]
    pub const fn offset(&self) -> u64 {
        self.offset
    }

    /// The file's length.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// The next chunk, of at most [`baton_proto::MAX_CHUNK`] bytes; `None` at
    /// the end. May be dropped at any time.
    ///
    /// # Errors
    /// [`FilesError::Io`], [`FilesError::Stopping`]; [`FilesError::Damaged`]
    /// when the file became shorter, or all of it was read and is not what the
    /// name of an upload says.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let left = usize::try_from(self.length - self.offset).unwrap_or(usize::MAX);
        if left == 0 {
            return self.check().map(|()| None);
        }
        let (name, file, offset) = (self.name, Arc::clone(&self.file), self.offset);
        let read = self.files.blocking(move || {
            disk::read_at(&file, offset, left.min(baton_proto::MAX_CHUNK))
                .map_err(|source| FilesError::Io { action: "read", path: name.to_string(), source })
        });
        let bytes = read.await?;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&bytes);
        }
        if bytes.is_empty() {
            return Err(FilesError::Damaged { name, position: offset });
        }
        self.offset += bytes.len() as u64;
        Ok(Some(bytes.into()))
    }

    /// Compares what was read from the first byte to the last with the name. Who
    /// began in the middle has to compare for itself.
    fn check(&mut self) -> Result<()> {
        let Some(hasher) = self.hasher.take() else { return Ok(()) };
        match self.name {
            FileName::Upload { digest } if digest != hasher.finalize().into() => {
                tracing::error!(file = %self.name, "what is stored is not what its name says");
                Err(FilesError::Damaged { name: self.name, position: self.length })
            }
            _ => Ok(()),
        }
    }
}
