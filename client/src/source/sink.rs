//! The end of the line for everything that becomes a source archive: a tar
//! stream is compressed into a file, counted, digested and limited on the way.

use std::fs::File;
use std::io::{self, Write};

use zstd::stream::write::Encoder;

const LEVEL: i32 = 3;

/// The archive outgrew its limit; travels inside an [`io::Error`].
#[derive(Debug, thiserror::Error)]
#[error("archive larger than {limit} bytes")]
pub(super) struct OverLimit {
    pub(super) size: u64,
    pub(super) limit: u64,
}

impl OverLimit {
    /// Whether this is what `err` is about, and not the file.
    pub(super) fn within(err: &io::Error) -> Option<&Self> {
        err.get_ref().and_then(|inner| inner.downcast_ref())
    }
}

pub(super) struct Sink {
    pub(super) file: File,
    pub(super) size: u64,
    limit: u64,
    hasher: blake3::Hasher,
}

impl Sink {
    pub(super) fn new(file: File, limit: u64) -> Self {
        Self { file, size: 0, limit, hasher: blake3::Hasher::new() }
    }

    pub(super) fn digest(&self) -> String {
        self.hasher.finalize().to_hex().to_string()
    }

    /// What is written to it is compressed; equal bytes become equal bytes.
    pub(super) fn compressed(self) -> io::Result<Encoder<'static, Self>> {
        let mut encoder = Encoder::new(self, LEVEL)?;
        encoder.include_checksum(true)?;
        Ok(encoder)
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let size = self.size + bytes.len() as u64;
        if size > self.limit {
            return Err(io::Error::other(OverLimit { size, limit: self.limit }));
        }
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
