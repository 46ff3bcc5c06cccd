//! What Baton says in a job's output after the command has ended: notes before the end of
//! the spool. That end was told to nobody yet, so the spool can still be changed there.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::unix::fs::FileExt as _,
    path::Path,
};

use baton_proto::spool::{HEADER_LEN, Header, Kind, push_frame};

use crate::untrusted;

/// The longest note, in bytes.
const LONGEST: usize = 1000;
/// How many notes there may be.
const MOST: usize = 50;

/// What is to stand in a spool from the place of its end on: notes, and then that end. It is
/// recorded before the spool is changed, and done again after a restart, so that an end that
/// was sent stays where it was.
#[derive(Clone, PartialEq, Eq, prost::Message)]
pub(super) struct Epilogue {
    #[prost(uint64, tag = "1")]
    at: u64,
    /// Whole frames.
    #[prost(bytes = "vec", tag = "2")]
    notes: Vec<u8>,
    /// The frame.
    #[prost(bytes = "vec", tag = "3")]
    end: Vec<u8>,
}

impl Epilogue {
    /// The one that says this; none without notes, and for a spool without an end, which
    /// stays without one.
    pub(super) fn of(spool: &Path, notes: &[String], now: u64) -> io::Result<Option<Self>> {
        if notes.is_empty() {
            return Ok(None);
        }
        let Some((at, end)) = find_end(&untrusted::open_to_read(spool)?)? else { return Ok(None) };
        let mut frames = Vec::new();
        for note in notes.iter().take(MOST) {
            push_frame(&mut frames, Kind::Note, now, readable(note).as_bytes());
        }
        Ok(Some(Self { at, notes: frames, end }))
    }

    /// Makes it stand there. Where it does already, nothing is written.
    ///
    /// # Errors
    /// It does not, such as for want of room, and the end is where it was.
    pub(super) fn write(&self, spool: &Path) -> io::Result<()> {
        let file = untrusted::open(spool, OpenOptions::new().read(true).write(true))?;
        let frames = [&self.notes[..], &self.end].concat();
        if self.stands_in(&file, &frames)? {
            return Ok(());
        }
        if let Err(error) = file.write_all_at(&frames, self.at) {
            file.set_len(self.at)?;
            file.write_all_at(&self.end, self.at)?;
            file.sync_data()?;
            return Err(error);
        }
        file.sync_data()
    }

    fn stands_in(&self, file: &File, frames: &[u8]) -> io::Result<bool> {
        if file.metadata()?.len() != self.at + frames.len() as u64 {
            return Ok(false);
        }
        let mut found = vec![0; frames.len()];
        file.read_exact_at(&mut found, self.at)?;
        Ok(found == frames)
    }
}

/// Where the end of a spool begins, and its whole frame.
fn find_end(file: &File) -> io::Result<Option<(u64, Vec<u8>)>> {
    let length = file.metadata()?.len();
    let mut reader = io::BufReader::with_capacity(1 << 16, file);
    let mut position = 0;
    while position < length {
        let mut header = [0; HEADER_LEN];
        if reader.read_exact(&mut header).is_err() {
            return Ok(None);
        }
        let Ok(decoded) = Header::decode(&header) else { return Ok(None) };
        if decoded.kind == Kind::End {
            let mut payload = vec![0; decoded.len as usize];
            let is_whole = reader.read_exact(&mut payload).is_ok();
            return Ok(is_whole.then(|| (position, [&header[..], &payload].concat())));
        }
        reader.seek_relative(i64::from(decoded.len))?;
        position += HEADER_LEN as u64 + u64::from(decoded.len);
    }
    Ok(None)
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

    /// A spool, and what stands in it.
    fn spool(dir: &Path) -> (std::path::PathBuf, Vec<u8>, LogEnd) {
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Kind::Note, 1, b"one");
        push_frame(&mut bytes, Kind::Stdout, 2, b"text");
        let end = LogEnd { stdout_length: 4, ..LogEnd::default() };
        push_end(&mut bytes, 3, &end);
        let spool = dir.join("spool");
        std::fs::write(&spool, &bytes).unwrap();
        (spool, bytes, end)
    }

    #[test]
    fn notes_come_before_the_end_and_only_once() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, _, end) = spool(dir.path());
        let notes = ["one".to_owned(), "two\n".to_owned()];
        let epilogue = Epilogue::of(&spool, &notes, 9).unwrap().unwrap();
        epilogue.write(&spool).unwrap();
        let first = std::fs::read(&spool).unwrap();
        epilogue.write(&spool).unwrap();
        assert_eq!(std::fs::read(&spool).unwrap(), first);
        let kinds: Vec<_> = frames(&first).into_iter().map(|(kind, _)| kind).collect();
        assert_eq!(kinds, [Kind::Note, Kind::Stdout, Kind::Note, Kind::Note, Kind::End]);
        assert_eq!(frames(&first)[3].1, b"two");
        assert_eq!(decode_end(&frames(&first)[4].1).unwrap(), end);
    }

    #[test]
    fn an_epilogue_that_was_broken_off_anywhere_is_made_whole() {
        let dir = tempfile::tempdir().unwrap();
        let (spool, before, _) = spool(dir.path());
        let notes = ["a longer note".to_owned(), "two".to_owned()];
        let epilogue = Epilogue::of(&spool, &notes, 9).unwrap().unwrap();
        epilogue.write(&spool).unwrap();
        let whole = std::fs::read(&spool).unwrap();
        for written in usize::try_from(epilogue.at).unwrap()..whole.len() {
            let mut torn = whole[..written].to_vec();
            torn.extend_from_slice(before.get(written..).unwrap_or_default());
            std::fs::write(&spool, &torn).unwrap();
            epilogue.write(&spool).unwrap();
            assert_eq!(std::fs::read(&spool).unwrap(), whole, "{written}");
        }
    }

    #[test]
    fn a_spool_without_its_end_stays_as_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let spool = dir.path().join("spool");
        let mut bytes = Vec::new();
        push_frame(&mut bytes, Kind::Stdout, 2, b"text");
        for cut in [bytes.len(), bytes.len() - 2, 3] {
            std::fs::write(&spool, &bytes[..cut]).unwrap();
            assert_eq!(Epilogue::of(&spool, &["note".to_owned()], 9).unwrap(), None);
        }
    }
}
