//! An archive that is ready to be sent, in an unnamed temporary file.

use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::FileExt;

use baton_proto::MAX_CHUNK;
use bytes::Bytes;

use super::layout::DEFAULT_UNPACKED_LIMIT;
use super::sink::Sink;

/// How large an archive may be unless told otherwise, in compressed bytes.
pub const DEFAULT_ARCHIVE_LIMIT: u64 = 500 << 20;

/// What may become of a source at most.
#[derive(Debug, Clone)]
pub struct PackLimits {
    /// Compressed bytes.
    pub archive: u64,
    /// The sum of all files' sizes, in bytes.
    pub unpacked: u64,
}

impl Default for PackLimits {
    fn default() -> Self {
        Self { archive: DEFAULT_ARCHIVE_LIMIT, unpacked: DEFAULT_UNPACKED_LIMIT }
    }
}

/// A source that is ready to be sent.
#[derive(Debug)]
pub struct PackedSource {
    /// BLAKE3 of the compressed bytes: 64 lower-case hex digits.
    pub digest: String,
    /// Compressed bytes.
    pub size: u64,
    /// Regular files in it.
    pub files: u64,
    /// The sum of its files' sizes, in bytes.
    pub unpacked_bytes: u64,
    /// The archive, at its beginning; it has no name and goes away with this.
    pub file: File,
}

impl PackedSource {
    /// What was written to `sink`: so many `files` with so many bytes.
    pub(super) fn new(mut sink: Sink, files: u64, unpacked_bytes: u64) -> io::Result<Self> {
        sink.file.rewind()?;
        let (digest, size) = (sink.digest(), sink.size);
        Ok(Self { digest, size, files, unpacked_bytes, file: sink.file })
    }

    /// The bytes at `offset`: as many as one message carries, fewer at the
    /// end, none at `size`.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidInput`] beyond the end; else what reading gave.
    pub fn chunk(&self, offset: u64) -> io::Result<Bytes> {
        let left = self.size.checked_sub(offset).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "offset beyond the end of the archive")
        })?;
        let length = usize::try_from(left).unwrap_or(usize::MAX).min(MAX_CHUNK);
        let mut chunk = vec![0; length];
        self.file.read_exact_at(&mut chunk, offset)?;
        Ok(chunk.into())
    }
}
