//! Archives made byte by byte, and what becomes of them.

use std::cell::Cell;
use std::io::{self, Read, Write};

use flate2::Compression;
use flate2::write::GzEncoder;
use tar::{Builder, EntryType, Header};

use super::super::packed::{PackLimits, PackedSource};
use super::{ArchiveError, take};

/// A tar stream under construction, with nothing checked.
pub(super) struct Tar(Builder<Vec<u8>>);

impl Tar {
    pub(super) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    /// One entry whose header says exactly this.
    pub(super) fn entry(mut self, kind: u8, name: &[u8], link: &[u8], content: &[u8]) -> Self {
        let header = header(kind, name, link, content.len() as u64);
        self.0.append(&header, content).unwrap();
        self
    }

    pub(super) fn file(self, name: &[u8], content: &[u8]) -> Self {
        self.entry(b'0', name, b"", content)
    }

    pub(super) fn symlink(self, name: &[u8], target: &[u8]) -> Self {
        self.entry(b'2', name, target, b"")
    }

    pub(super) fn hard_link(self, name: &[u8], target: &[u8]) -> Self {
        self.entry(b'1', name, target, b"")
    }

    pub(super) fn folder(self, name: &[u8]) -> Self {
        self.entry(b'5', name, b"", b"")
    }

    pub(super) fn bytes(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub(super) fn header(kind: u8, name: &[u8], link: &[u8], size: u64) -> Header {
    let mut header = Header::new_gnu();
    header.as_old_mut().name[..name.len()].copy_from_slice(name);
    header.as_old_mut().linkname[..link.len()].copy_from_slice(link);
    header.set_entry_type(EntryType::new(kind));
    header.set_mode(0o644);
    header.set_mtime(1_000_000_000);
    header.set_size(size);
    header.set_cksum();
    header
}

pub(super) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(super) fn zstd(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that do not compress, the same every time.
pub(super) fn noise(length: usize) -> Vec<u8> {
    let mut noise = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut noise);
    noise
}

pub(super) fn taken(archive: &[u8]) -> Result<PackedSource, ArchiveError> {
    taken_within(archive, &PackLimits::default())
}

pub(super) fn taken_within(
    archive: &[u8],
    limits: &PackLimits,
) -> Result<PackedSource, ArchiveError> {
    take(archive, limits, &|| false)
}

/// The tar stream that is sent.
pub(super) fn sent(packed: &PackedSource) -> Vec<u8> {
    zstd::decode_all(&packed.file).unwrap()
}

/// A reader that tells how much was taken from it.
pub(super) struct Counting<'a, R> {
    stream: R,
    read: &'a Cell<u64>,
}

impl<'a, R> Counting<'a, R> {
    pub(super) fn new(stream: R, read: &'a Cell<u64>) -> Self {
        Self { stream, read }
    }
}

impl<R: Read> Read for Counting<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        self.read.set(self.read.get() + read as u64);
        Ok(read)
    }
}
