//! What Baton says in a job's output after the command has ended: notes before the end of
//! the spool. That end was told to nobody yet, so the spool can still be changed there.

use std::{
    fs::OpenOptions,
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use baton_proto::spool::{HEADER_LEN, Header, Kind, MAX_PAYLOAD, push_frame};

use crate::untrusted;

/// The longest note, in bytes.
const LONGEST: usize = 1000;
/// How many notes there may be.
const MOST: usize = 50;

/// Adds notes, once: what is there already from before a restart stays as it is, because
/// it may have been sent. A spool without an end stays without one, and gets no notes.
pub(super) fn add(spool: &Path, notes: &[String], now: u64) -> io::Result<()> {
    let notes: Vec<String> = notes.iter().take(MOST).map(|note| readable(note)).collect();
    if notes.is_empty() {
        return Ok(());
    }
    let file = untrusted::open(spool, OpenOptions::new().read(true).write(true))?;
    let Some(Tail { end_at, end, said }) = Tail::read(&file, notes.len())? else { return Ok(()) };
    if said == notes {
        return Ok(());
    }
    let mut frames = Vec::new();
    for note in &notes {
        push_frame(&mut frames, Kind::Note, now, note.as_bytes());
    }
    frames.extend_from_slice(&end);
    file.write_all_at(&frames, end_at).or_else(|_| {
        // Without room for notes, at least the end.
        file.set_len(end_at)?;
        file.write_all_at(&end, end_at)
    })?;
    file.sync_data()
}

/// The end of a spool.
struct Tail {
    end_at: u64,
    /// The whole frame.
    end: Vec<u8>,
    /// The notes right before it.
    said: Vec<String>,
}

impl Tail {
    /// None: it has no end. Of the notes before it the last `most` are read.
    fn read(file: &std::fs::File, most: usize) -> io::Result<Option<Self>> {
        let length = file.metadata()?.len();
        let mut reader = io::BufReader::with_capacity(1 << 16, file);
        let mut said = Vec::new();
        let mut position = 0;
        let mut payload = Vec::with_capacity(MAX_PAYLOAD);
        while position < length {
            let mut header = [0; HEADER_LEN];
            if reader.read_exact(&mut header).is_err() {
                return Ok(None);
            }
            let Ok(decoded) = Header::decode(&header) else { return Ok(None) };
            match decoded.kind {
                Kind::Stdout | Kind::Stderr => {
                    said.clear();
                    reader.seek_relative(i64::from(decoded.len))?;
                }
                Kind::Note | Kind::End => {
                    payload.resize(decoded.len as usize, 0);
                    if reader.read_exact(&mut payload).is_err() {
                        return Ok(None);
                    }
                }
            }
            if decoded.kind == Kind::End {
                let end = [&header[..], &payload].concat();
                let said = said.split_off(said.len().saturating_sub(most));
                return Ok(Some(Self { end_at: position, end, said }));
            }
            if decoded.kind == Kind::Note {
                said.push(String::from_utf8_lossy(&payload).into_owned());
            }
            position += HEADER_LEN as u64 + u64::from(decoded.len);
        }
        Ok(None)
    }
}

fn readable(note: &str) -> String {
    let mut note: String = note.chars().filter(|c| !c.is_control()).collect();
    note.truncate(note.floor_char_boundary(LONGEST));
    note
}

#[cfg(test)]
mod tests {
    use baton_proto::{
        spool::{decode_end, push_end},
        v1::LogEnd,
    };

    use super::*;

    fn frames(bytes: &[u8]) -> Vec<(Kind, Vec<u8>)> {
        let (mut rest, mut frames) = (bytes, Vec::new());
        while let Some((header, after)) = rest.split_first_chunk::<HEADER_LEN>() {
            let header = Header::decode(header).unwrap();
            let (payload, after) = after.split_at(header.len as usize);
            frames.push((header.kind, payload.to_vec()));
            rest = after;
        }
        frames
    }

    #[test]
    fn notes_come_before_the_end_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Kind::Note, 1, b"one");
        push_frame(&mut bytes, Kind::Stdout, 2, b"text");
        let end = LogEnd { stdout_length: 4, ..LogEnd::default() };
        push_end(&mut bytes, 3, &end);
        std::fs::write(&spool, &bytes).unwrap();
        let notes = ["one".to_owned(), "two\n".to_owned()];
        add(&spool, &notes, 9).unwrap();
        let first = std::fs::read(&spool).unwrap();
        add(&spool, &notes, 10).unwrap();
        assert_eq!(std::fs::read(&spool).unwrap(), first);
        let kinds: Vec<_> = frames(&first).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [Kind::Note, Kind::Stdout, Kind::Note, Kind::Note, Kind::End]);
        assert_eq!(frames(&first)[3].1, b"two");
        assert_eq!(decode_end(&frames(&first)[4].1).unwrap(), end);
    }

    #[test]
    fn a_spool_without_its_end_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Kind::Stdout, 2, b"text");
        for cut in [bytes.len(), bytes.len() - 2, 3] {
            std::fs::write(&spool, &bytes[..cut]).unwrap();
            add(&spool, &["note".to_owned()], 9).unwrap();
            assert_eq!(std::fs::read(&spool).unwrap(), &bytes[..cut]);
        }
    }
}
