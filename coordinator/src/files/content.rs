//! Reading a sealed file as plain bytes: how a runner fetches an archive.

use std::{fs::File, sync::Arc};

use bytes::Bytes;
use futures::{Stream, stream};

use super::{
    Files,
    disk::{self, blocking},
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
        blocking(move || {
            let file = disk::open_read(&path)?.ok_or(FilesError::NotFound(name))?;
            let metadata = file.metadata();
            let length = metadata.map_err(|error| FilesError::io("look at", &path, error))?.len();
            if offset > length {
                return Err(FilesError::OffsetGap { length });
            }
            Ok(ContentReader { name, file: Arc::new(file), offset, length })
        })
        .await
    }
}

/// The bytes of a sealed file, in order. It goes on although the file is removed meanwhile.
#[derive(Debug)]
pub struct ContentReader {
    name: FileName,
    file: Arc<File>,
    offset: u64,
    length: u64,
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
    /// when the file became shorter.
    pub async fn next(&mut self) -> Result<Option<Bytes>> {
        let left = usize::try_from(self.length - self.offset).unwrap_or(usize::MAX);
        if left == 0 {
            return Ok(None);
        }
        let (name, file, offset) = (self.name, Arc::clone(&self.file), self.offset);
        let bytes = blocking(move || {
            disk::read_at(&file, offset, left.min(baton_proto::MAX_CHUNK))
                .map_err(|source| FilesError::Io { action: "read", path: name.to_string(), source })
        })
        .await?;
        if bytes.is_empty() {
            return Err(FilesError::Damaged { name, position: offset });
        }
        self.offset += bytes.len() as u64;
        Ok(Some(bytes.into()))
    }

    /// The chunks as a stream.
    pub fn into_stream(self) -> impl Stream<Item = Result<Bytes>> + Send + Unpin {
        Box::pin(stream::try_unfold(self, async |mut reader| {
            Ok(reader.next().await?.map(|bytes| (bytes, reader)))
        }))
    }
}
