//! Bits that flip on a disk while nobody looks, where what reads them has to notice:
//! all of a snapshot is covered by its BLAKE3; of an output all but its times and notes;
//! SQLite notices when the kind of one of its pages is none that there is.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    path::Path,
};

use baton_proto::spool::{HEADER_LEN, Header, Kind};

/// Where SQLite's file says how long its pages are.
const PAGE_SIZE_AT: usize = 16;
/// What the first page has before its kind.
const FILE_HEADER: usize = 100;
/// The kinds of SQLite's pages that hold tables and indexes.
const PAGE_KINDS: [u8; 4] = [2, 5, 10, 13];

/// Flips a bit of an output, in what its reader compares; false when it has no frame.
///
/// # Errors
/// When it cannot be read or changed.
pub fn flip_in_output(path: &Path, random: &mut fastrand::Rng) -> io::Result<bool> {
    let bytes = fs::read(path)?;
    let (mut at, mut places) = (0, Vec::new());
    while let Some(header) = bytes[at..].first_chunk::<HEADER_LEN>() {
        let header = Header::decode(header).map_err(io::Error::other)?;
        let next = bytes.len().min(at + HEADER_LEN + header.len as usize);
        if header.kind != Kind::Note {
            // The kind, then eight bytes of time, the length and the payload.
            places.push(at);
            places.extend(at + 9..next);
        }
        at = next;
    }
    if places.is_empty() {
        return Ok(false);
    }
    flip(path, places[random.usize(..places.len())] as u64, random.u8(..8))?;
    Ok(true)
}

/// Flips a bit of each snapshot in a folder; false when there is none.
///
/// # Errors
/// When they cannot be read or changed.
pub fn flip_in_snapshots(folder: &Path, random: &mut fastrand::Rng) -> io::Result<bool> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.extension().is_none() {
            found.push(path);
        }
    }
    // In an order that is the same each time.
    found.sort();
    for path in &found {
        flip(path, random.u64(..fs::metadata(path)?.len()), random.u8(..8))?;
    }
    Ok(!found.is_empty())
}

/// Flips a bit of an SQLite database's main file; false when it has no page yet.
///
/// # Errors
/// When it cannot be read or changed.
pub fn flip_in_database(path: &Path, random: &mut fastrand::Rng) -> io::Result<bool> {
    let bytes = fs::read(path)?;
    let Some(size) = bytes.get(PAGE_SIZE_AT..PAGE_SIZE_AT + 2) else { return Ok(false) };
    let size = usize::from(u16::from_be_bytes([size[0], size[1]]));
    if size <= FILE_HEADER {
        return Ok(false);
    }
    let kinds = (size..bytes.len()).step_by(size).chain([FILE_HEADER]);
    let kinds: Vec<usize> = kinds.filter(|place| PAGE_KINDS.contains(&bytes[*place])).collect();
    if kinds.is_empty() {
        return Ok(false);
    }
    // The lower bits would make one kind into another.
    flip(path, kinds[random.usize(..kinds.len())] as u64, random.u8(4..8))?;
    Ok(true)
}

fn flip(path: &Path, place: u64, bit: u8) -> io::Result<()> {
    let file = OpenOptions::new().read(true).write(true).open(path)?;
    let mut byte = [0];
    file.read_exact_at(&mut byte, place)?;
    byte[0] ^= 1 << bit;
    file.write_all_at(&byte, place)
}
