//! Looks through the log's files before raft-engine opens them.
//!
//! raft-engine takes whatever does not match its checksum near the end for a
//! write that a loss of power cut short, and drops it with all that follows; of
//! other records it looks at the index only. Here a torn write is told from
//! damage: every record is on disk before the next one with entries is written,
//! so only the last flush can be torn. Something unreadable that intact records
//! follow was whole once, and acknowledged; but see [`never_written`].
//!
//! The format is that of raft-engine 0.4: a file is a header and records; a
//! record is its length, the offset of its index, entries with a CRC32, and the
//! index with a CRC32 that is mixed with the file's number.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tracing::warn;

use super::RaftError;

const MAGIC: &[u8] = b"RAFT-LOG-FILE-HEADER-9986AB3E47F320B394C8E84916EB0ED5";
const LENGTH: usize = 8;
const RECORD_HEADER: usize = 16;
const CRC: usize = 4;
/// What a disk writes whole or not at all.
const PAGE: usize = 4096;

/// Checks every record in the log's folder. Changes nothing.
pub(super) fn verify(dir: &Path) -> Result<(), RaftError> {
    let failed = |source: io::Error| RaftError::Log { dir: dir.to_owned(), source: source.into() };
    for queue in [".raftlog", ".rewrite"] {
        let files = files(dir, queue).map_err(failed)?;
        let last = files.last().map(|file| file.number);
        for file in files {
            let bytes = fs::read(&file.path).map_err(failed)?;
            let is_last = last == Some(file.number);
            file.check(&bytes, is_last).map_err(|detail| RaftError::DamagedLog {
                dir: dir.to_owned(),
                detail: format!("{}: {detail}", file.path.display()),
            })?;
        }
    }
    Ok(())
}

struct LogFile {
    path: PathBuf,
    number: u64,
}

/// The files of one queue that count, in order: those without a gap up to the
/// newest. What is before a gap was given up and waits to be used again.
fn files(dir: &Path, queue: &str) -> io::Result<Vec<LogFile>> {
    let mut files = Vec::new();
    if !dir.exists() {
        return Ok(files);
    }
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        if let Some(number) = name.strip_suffix(queue).and_then(|number| number.parse().ok()) {
            files.push(LogFile { path, number });
        }
    }
    files.sort_unstable_by_key(|file| file.number);
    let gap = files.windows(2).rposition(|pair| pair[1].number - pair[0].number != 1);
    Ok(files.split_off(gap.map_or(0, |before| before + 1)))
}

impl LogFile {
    fn check(&self, bytes: &[u8], is_last: bool) -> Result<(), String> {
        // The file's number in its low 32 bits, since version 2 of the format.
        #[expect(clippy::cast_possible_truncation, reason = "that is how it is written")]
        let number = self.number as u32;
        let Some((header, signature)) = header(bytes, number) else {
            return match next_intact(bytes, 0, number) {
                None if is_last => Ok(()),
                _ => Err("its header is not what was written".to_owned()),
            };
        };
        let mut at = header;
        while let Some(length) = record(&bytes[at..], signature) {
            at += length;
        }
        if at == bytes.len() {
            return Ok(());
        }
        let intact = next_intact(bytes, at + 1, number);
        let torn = is_last && intact.is_none_or(|intact| never_written(bytes, at, intact));
        if let Some(intact) = intact.filter(|_| !torn) {
            return Err(format!(
                "the record at byte {at} is not what was written, and one at byte {intact} is intact"
            ));
        }
        if !torn {
            return Err(format!("the record at byte {at} is not what was written"));
        }
        if bytes[at..].iter().any(|byte| *byte != 0) {
            let file = self.path.display();
            warn!(%file, at, "the Raft log ends in a write that was cut short; it counts as not made");
        }
        Ok(())
    }
}

/// The length of the file's header, and what the records' checksums are mixed
/// with; none when it is no header. raft-engine gives a file version 1 when it
/// had to write the header anew.
fn header(bytes: &[u8], number: u32) -> Option<(usize, u32)> {
    let rest = bytes.strip_prefix(MAGIC)?;
    match (u64_at(rest, 0)?, u64_at(rest, 8)) {
        (1, _) => Some((MAGIC.len() + 8, 0)),
        (2, Some(0)) => Some((MAGIC.len() + 16, number)),
        _ => None,
    }
}

/// Whether a page of the record at `at` never reached the disk although a later one,
/// with the record at `intact`, did: both belong to the flush during which the power
/// failed. The files are new, so that such a page reads as zeros.
fn never_written(bytes: &[u8], at: usize, intact: usize) -> bool {
    // A record begins with zeros, which are the same in a page that is missing.
    let intact = intact + bytes[intact..].iter().take_while(|byte| **byte == 0).count();
    let claimed = u64_at(bytes, at).and_then(|header| usize::try_from(header >> 8).ok());
    // If the header reaches into a page that is missing, it says too little.
    let end = at.saturating_add(claimed.unwrap_or(0).max(RECORD_HEADER)).min(intact);
    let mut from = at;
    while from < end {
        let page_end = (from + 1).next_multiple_of(PAGE);
        let page = &bytes[from..page_end.min(bytes.len())];
        // The length that a record begins with is never zero.
        let tells = from > at || page.len() >= LENGTH;
        if tells && page_end <= intact && page.iter().all(|byte| *byte == 0) {
            return true;
        }
        from = page_end;
    }
    false
}

/// The length of the record that `bytes` begin with, if there is an intact one.
fn record(bytes: &[u8], signature: u32) -> Option<usize> {
    let length_and_kind = u64_at(bytes, 0)?;
    // The kind is how the entries are compressed: here they never are.
    let kind = length_and_kind & 0xff;
    let length = usize::try_from(length_and_kind >> 8).ok()?;
    let index = usize::try_from(u64_at(bytes, 8)?).ok()?;
    if kind != 0 || index < RECORD_HEADER || length <= index || length > bytes.len() {
        return None;
    }
    let entries = &bytes[RECORD_HEADER..index];
    let intact =
        (entries.is_empty() || matches(entries, 0)) && matches(&bytes[index..length], signature);
    intact.then_some(length)
}

/// Whether the checksum at the end of a block is that of what is before it.
fn matches(block: &[u8], signature: u32) -> bool {
    let Some((content, sum)) = block.split_last_chunk::<CRC>() else { return false };
    !content.is_empty() && crc32fast::hash(content) ^ signature == u32::from_le_bytes(*sum)
}

/// Where the first intact record at `from` or later begins, of either version.
fn next_intact(bytes: &[u8], from: usize, number: u32) -> Option<usize> {
    (from..bytes.len()).find(|at| {
        let bytes = &bytes[*at..];
        record(bytes, number).is_some() || record(bytes, 0).is_some()
    })
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    let bytes = bytes.get(at..)?.first_chunk()?;
    Some(u64::from_be_bytes(*bytes))
}
