//! Turns a folder into one `tar.zst` archive in an unnamed temporary file.
//!
//! Equal folders give equal bytes: entries are sorted and owners dropped, so
//! that the digest names the content. Nothing in here may take anything from
//! the machine or the user (owner, global ignore rules, time of day).

mod error;
#[cfg(test)]
mod tests;
mod walk;
mod write;

use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;

use baton_proto::MAX_CHUNK;
use bytes::Bytes;

pub use error::{PackError, SizedPath};

use super::layout::DEFAULT_UNPACKED_LIMIT;
use super::sink::Sink;
use walk::{Entry, Kind};
use write::Writer;

/// How large an archive may be unless told otherwise, in compressed bytes.
pub const DEFAULT_ARCHIVE_LIMIT: u64 = 500 << 20;

const LARGEST_NAMED: usize = 5;

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

/// How far packing has come. Told after every entry and about every MiB.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PackProgress {
    /// Regular files packed.
    pub files: u64,
    /// Regular files to pack.
    pub files_total: u64,
    /// Bytes of files packed.
    pub bytes: u64,
    /// Bytes of files to pack.
    pub bytes_total: u64,
    /// Compressed bytes written so far.
    pub archive: u64,
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

/// Packs the folder `dir`. Blocks: run it where blocking is allowed.
///
/// Left out is what `.gitignore` (with or without a repository),
/// `.git/info/exclude` and `.batonignore` (same syntax, has the last word)
/// say, and every `.git`. Rules outside of `dir` do not count. Hidden files,
/// empty folders and symbolic links are taken along.
///
/// `cancelled` is asked often; soon after it says yes, this returns
/// [`PackError::Cancelled`].
///
/// # Errors
/// [`PackError`]; nothing is left behind.
pub fn pack(
    dir: &Path,
    limits: &PackLimits,
    progress: &dyn Fn(PackProgress),
    cancelled: &dyn Fn() -> bool,
) -> Result<PackedSource, PackError> {
    let root = std::fs::canonicalize(dir)
        .map_err(|source| PackError::Folder { path: dir.into(), source })?;
    let entries = walk::entries(&root, cancelled)?;
    let total = totals(&entries);
    if total.bytes_total > limits.unpacked {
        return Err(PackError::Unpacked {
            size: total.bytes_total,
            limit: limits.unpacked,
            largest: largest(&entries),
        });
    }
    let file = tempfile::tempfile().map_err(PackError::Temporary)?;
    let sink = Sink::new(file, limits.archive);
    let mut writer = Writer::new(&root, sink, total, progress, cancelled)?;
    for entry in &entries {
        writer.append(entry).map_err(|err| name_largest(err, &entries))?;
    }
    let sink = writer.finish().map_err(|err| name_largest(err, &entries))?;
    PackedSource::new(sink, total.files_total, total.bytes_total).map_err(PackError::Temporary)
}

fn totals(entries: &[Entry]) -> PackProgress {
    let mut total = PackProgress::default();
    for entry in entries {
        if let Kind::File { size, .. } = entry.kind {
            total.files_total += 1;
            total.bytes_total += size;
        }
    }
    total
}

fn largest(entries: &[Entry]) -> Vec<SizedPath> {
    let mut files: Vec<(u64, &Path)> = entries
        .iter()
        .filter_map(|entry| match entry.kind {
            Kind::File { size, .. } => Some((size, entry.path.as_path())),
            _ => None,
        })
        .collect();
    files.sort_by(|a, b| b.cmp(a));
    files.truncate(LARGEST_NAMED);
    files.into_iter().map(|(size, path)| SizedPath { path: path.into(), size }).collect()
}

fn name_largest(err: PackError, entries: &[Entry]) -> PackError {
    match err {
        PackError::Archive { size, limit, .. } => {
            PackError::Archive { size, limit, largest: largest(entries) }
        }
        other => other,
    }
}
