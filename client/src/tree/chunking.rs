//! Where the content of a folder is cut into chunks, so that a change moves only the
//! cuts around it, wherever it is.
//!
//! A large file stands by itself and is cut by its content (FastCDC, Xia et al. 2020).
//! Small files share a chunk; whether a new one may begin before a file is decided by
//! the file's own path and size, and as with FastCDC it becomes likelier the more
//! there is already. So the cuts come together again soon after files were added,
//! removed or changed in size.

use std::{io, ops::Range};

use fastcdc::v2020::StreamCDC;

use super::manifest::CHUNK_MAX;

/// From this size on, in bytes, a file stands by itself.
const LARGE: u64 = 512 << 10;
/// Bytes that small files have together before there may be a cut. Much less than there
/// are between two places where there may be one, or the cuts would not find together.
const SHARED_MIN: u64 = 64 << 10;
/// Bytes between two such places on average; the same where the chunk is long already.
const SHARED_MEAN: u64 = 256 << 10;
const SHARED_MEAN_OF_LONG: u64 = 64 << 10;
/// From so many bytes on it is.
const SHARED_LONG: u64 = 1 << 20;
/// Bytes of the chunks of a large file: at least, on average, at most.
const CUT_MIN: usize = 256 << 10;
const CUT_MEAN: usize = 1 << 20;
const CUT_MAX: usize = CHUNK_MAX;

/// Files that are cut together.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unit {
    /// Files that are one chunk, or none if they are empty.
    Shared(Range<usize>),
    /// A file that is cut by its content.
    Large(usize),
}

/// Divides files, by their paths and sizes, in their order.
pub(super) fn units<'a>(files: impl Iterator<Item = (&'a [u8], u64)>) -> Vec<Unit> {
    let mut units = Vec::new();
    let (mut shared, mut length) = (0..0, 0_u64);
    for (index, (path, size)) in files.enumerate() {
        let is_large = size >= LARGE;
        if !shared.is_empty() && (is_large || cuts_before(path, size, length)) {
            units.push(Unit::Shared(shared.clone()));
            shared = index..index;
        }
        if shared.is_empty() {
            (shared, length) = (index..index, 0);
        }
        if is_large {
            units.push(Unit::Large(index));
        } else {
            shared.end = index + 1;
            length += size;
        }
    }
    if !shared.is_empty() {
        units.push(Unit::Shared(shared));
    }
    units
}

/// Whether a chunk of `length` bytes ends before a small file.
fn cuts_before(path: &[u8], size: u64, length: u64) -> bool {
    let mean = match length {
        _ if length + size > CHUNK_MAX as u64 => return true,
        0..SHARED_MIN => return false,
        SHARED_MIN..SHARED_LONG => SHARED_MEAN,
        _ => SHARED_MEAN_OF_LONG,
    };
    let [a, b, c, d, ..] = *blake3::hash(path).as_bytes();
    u64::from(u32::from_le_bytes([a, b, c, d])) % mean < size
}

/// Cuts a large file.
pub(super) fn cut(content: impl io::Read) -> impl Iterator<Item = io::Result<Vec<u8>>> {
    StreamCDC::new(content, CUT_MIN, CUT_MEAN, CUT_MAX)
        .map(|chunk| chunk.map(|chunk| chunk.data).map_err(io::Error::from))
}
