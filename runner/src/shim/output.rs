//! The job's two output streams on their way into the spool.
//!
//! A frame is in the spool whole or not at all: what could only be written in
//! part, because the disk is full, is cut off again and tried later, and until
//! then the streams are not read, so the job waits rather than losing bytes.
//! Whoever can wait no longer gives the rest up, and then it is counted.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _},
    os::{
        fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::{FileExt as _, OpenOptionsExt as _},
    },
    path::Path,
    sync::Arc,
};

use baton_proto::{
    spool::{HEADER_LEN, Header, Kind, MAX_PAYLOAD, push_end, push_frame},
    v1::LogEnd,
};
use nix::fcntl::{FcntlArg, OFlag, fcntl};

use super::mask::{Masker, Masks, SHORTEST};
use crate::{clock, executor::Launch, untrusted};

/// One of the job's output streams.
#[derive(Debug)]
struct Stream {
    kind: Kind,
    pipe: Option<File>,
    /// Bytes still to be read when nobody is left to write. None: until the end.
    left: Option<usize>,
    kept: u64,
    hasher: blake3::Hasher,
    masking: Option<Masking>,
}

/// What is masked of a stream.
#[derive(Debug)]
struct Masking {
    masker: Masker,
    /// Masked, and not in a frame yet.
    ready: Vec<u8>,
}

impl Stream {
    /// Everything has been read and is in a frame.
    fn is_over(&self) -> bool {
        self.pipe.is_none() && self.masking.as_ref().is_none_or(|it| it.ready.is_empty())
    }

    fn close(&mut self) {
        self.pipe = None;
        if let Some(Masking { masker, ready }) = &mut self.masking {
            masker.finish(ready);
        }
    }
}

/// The spool and what flows into it.
#[derive(Debug)]
pub(super) struct Output {
    spool: File,
    /// Bytes of whole frames in the spool.
    length: u64,
    /// Whole frames that could not be written yet.
    waiting: Vec<u8>,
    /// The job's part of those, at most one frame: it is still in `frame`, too.
    held: Option<Held>,
    /// Room for one frame, header first, so that a read needs no copy.
    frame: Vec<u8>,
    streams: [Stream; 2],
    limit: u64,
    dropped: u64,
    given_up: bool,
    /// Where the last frame begins, once it was added.
    end_at: Option<u64>,
}

/// A frame of a stream that waits for room on the disk.
#[derive(Debug)]
struct Held {
    /// Of the stream.
    index: usize,
    /// Where it is among the waiting bytes.
    at: usize,
    /// Bytes of payload.
    payload: usize,
}

impl Output {
    /// Opens the spool at `path` to append to what it holds, with the limit and the masks
    /// of `launch`.
    pub(super) fn open(path: &Path, launch: &Launch) -> io::Result<Self> {
        let (masks, short) = Masks::of_variables(&launch.masks, &launch.env);
        let mut output = Self::with(path, launch.output_limit, masks.as_ref())?;
        for name in short {
            output.note(&format!("{name} is not masked: it has less than {SHORTEST} bytes"));
        }
        Ok(output)
    }

    /// Of both streams together `limit` bytes are kept.
    fn with(path: &Path, limit: u64, masks: Option<&Arc<Masks>>) -> io::Result<Self> {
        let spool = untrusted::open(
            path,
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600),
        )?;
        let length = spool.metadata()?.len();
        let stream = |kind| Stream {
            kind,
            pipe: None,
            left: None,
            kept: 0,
            hasher: blake3::Hasher::new(),
            masking: masks.map(|masks| Masking { masker: Masker::new(masks), ready: Vec::new() }),
        };
        Ok(Self {
            spool,
            length,
            waiting: Vec::new(),
            held: None,
            frame: vec![0; HEADER_LEN + MAX_PAYLOAD],
            streams: [stream(Kind::Stdout), stream(Kind::Stderr)],
            limit,
            dropped: 0,
            given_up: false,
            end_at: None,
        })
    }

    /// Takes the read ends of the job's pipes.
    pub(super) fn attach(&mut self, stdout: OwnedFd, stderr: OwnedFd) -> io::Result<()> {
        for (stream, pipe) in self.streams.iter_mut().zip([stdout, stderr]) {
            fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            stream.pipe = Some(File::from(pipe));
        }
        Ok(())
    }

    /// Bytes of whole frames in the spool, before the end. The runner looks for that itself when the job is over,
    /// and may have to say something before it.
    pub(super) fn told(&self) -> u64 {
        self.end_at.map_or(self.length, |end_at| end_at.min(self.length))
    }

    /// Frames wait for room on the disk: call [`Output::flush`] again later.
    pub(super) fn is_blocked(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Both streams have reached their end.
    pub(super) fn is_drained(&self) -> bool {
        self.streams.iter().all(Stream::is_over)
    }

    /// The pipes to wait for: none while the spool is blocked.
    pub(super) fn pipes(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        let streams = if self.is_blocked() { &[][..] } else { &self.streams[..] };
        streams.iter().filter_map(|stream| stream.pipe.as_ref()).map(|pipe| pipe.as_fd())
    }

    /// Nobody of the job is left to write: what the pipes hold now is all that
    /// will be read, even if a stranger was handed one and keeps it open.
    pub(super) fn stop_waiting(&mut self) {
        for stream in &mut self.streams {
            let mut held: libc::c_int = 0;
            if let Some(pipe) = &stream.pipe {
                // SAFETY: the descriptor is open and `held` a valid place for the answer.
                unsafe { libc::ioctl(pipe.as_raw_fd(), libc::FIONREAD, &raw mut held) };
            }
            stream.left = Some(usize::try_from(held).unwrap_or_default());
        }
    }

    /// Moves what is there, at most one frame of each stream.
    pub(super) fn pump(&mut self) {
        for index in 0..self.streams.len() {
            if !self.is_blocked() {
                self.pump_stream(index);
            }
        }
    }

    fn pump_stream(&mut self, index: usize) {
        self.read(index);
        self.keep_masked(index);
    }

    fn read(&mut self, index: usize) {
        let stream = &mut self.streams[index];
        if stream.masking.as_ref().is_some_and(|masking| !masking.ready.is_empty()) {
            return;
        }
        let Some(pipe) = &mut stream.pipe else { return };
        let most = stream.left.unwrap_or(MAX_PAYLOAD).min(MAX_PAYLOAD);
        match pipe.read(&mut self.frame[HEADER_LEN..HEADER_LEN + most]) {
            Ok(0) => stream.close(),
            Ok(read) => {
                stream.left = stream.left.map(|left| left - read);
                match &mut stream.masking {
                    Some(Masking { masker, ready }) => {
                        masker.push(&self.frame[HEADER_LEN..HEADER_LEN + read], ready);
                    }
                    None => self.keep(index, read),
                }
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && stream.left.is_none() => {}
            Err(_) => stream.close(),
        }
    }

    /// Keeps what is masked, as far as the disk takes it.
    fn keep_masked(&mut self, index: usize) {
        while self.given_up || !self.is_blocked() {
            let Some(Masking { ready, .. }) = &mut self.streams[index].masking else { return };
            let length = ready.len().min(MAX_PAYLOAD);
            if length == 0 {
                return;
            }
            self.frame[HEADER_LEN..HEADER_LEN + length].copy_from_slice(&ready[..length]);
            ready.drain(..length);
            self.keep(index, length);
        }
    }

    /// Keeps of the `read` bytes in the frame what the limit allows.
    fn keep(&mut self, index: usize, read: usize) {
        if self.given_up {
            self.dropped += read as u64;
            return;
        }
        let kept: u64 = self.streams.iter().map(|stream| stream.kept).sum();
        let room = usize::try_from(self.limit.saturating_sub(kept)).unwrap_or(usize::MAX);
        let taken = read.min(room);
        if taken > 0 {
            self.write(index, taken);
        }
        if taken < read {
            if self.dropped == 0 {
                let limit = human_bytes(self.limit);
                self.note(&format!("output limit of {limit} reached; the rest is dropped"));
            }
            self.dropped += (read - taken) as u64;
        }
    }

    /// Writes the frame with its payload of `taken` bytes, now or later.
    fn write(&mut self, index: usize, taken: usize) {
        // A read is at most MAX_PAYLOAD bytes, which fits.
        let len = u32::try_from(taken).unwrap_or(u32::MAX);
        let header = Header { kind: self.streams[index].kind, time: clock::wall(), len };
        self.frame[..HEADER_LEN].copy_from_slice(&header.encode());
        let frame = &self.frame[..HEADER_LEN + taken];
        if append(&self.spool, self.length, frame).is_ok() {
            self.length += frame.len() as u64;
            self.count(index, taken);
        } else {
            self.held = Some(Held { index, at: self.waiting.len(), payload: taken });
            self.waiting.extend_from_slice(frame);
        }
    }

    /// Counts the frame's payload as kept, once it is.
    fn count(&mut self, index: usize, taken: usize) {
        let stream = &mut self.streams[index];
        stream.hasher.update(&self.frame[HEADER_LEN..HEADER_LEN + taken]);
        stream.kept += taken as u64;
    }

    /// Adds a line by Baton itself.
    pub(super) fn note(&mut self, text: &str) {
        let mut end = text.len().min(MAX_PAYLOAD);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        push_frame(&mut self.waiting, Kind::Note, clock::wall(), &text.as_bytes()[..end]);
        self.flush();
    }

    /// Drops what of the job's output waits and all that follows, and says so
    /// with the reason `why`. Notes and the end still wait for the disk.
    pub(super) fn give_up(&mut self, why: &str) {
        if self.given_up || (self.held.is_none() && self.is_drained()) {
            return;
        }
        self.given_up = true;
        if let Some(Held { at, payload, .. }) = self.held.take() {
            self.waiting.drain(at..at + HEADER_LEN + payload);
            self.dropped += payload as u64;
        }
        self.note(&format!("{why}; the rest is dropped"));
    }

    /// Reads all that the pipes hold once nobody is left to write, as far as
    /// the disk takes it.
    pub(super) fn drain(&mut self) {
        while !self.is_drained() && (self.given_up || !self.is_blocked()) {
            for index in 0..self.streams.len() {
                if self.given_up || !self.is_blocked() {
                    self.pump_stream(index);
                }
            }
        }
    }

    /// Lets go of what waits, which leaves the spool without its end.
    pub(super) fn abandon(&mut self) {
        self.waiting.clear();
    }

    /// Adds the last frame, once.
    pub(super) fn end(&mut self) {
        if self.end_at.is_some() {
            return;
        }
        self.end_at = Some(self.length + self.waiting.len() as u64);
        let [stdout, stderr] = &self.streams;
        let end = LogEnd {
            stdout_length: stdout.kept,
            stdout_blake3: stdout.hasher.finalize().to_hex().to_string(),
            stderr_length: stderr.kept,
            stderr_blake3: stderr.hasher.finalize().to_hex().to_string(),
            dropped: self.dropped,
            ..LogEnd::default()
        };
        push_end(&mut self.waiting, clock::wall(), &end);
        self.flush();
    }

    /// Tries again to write what waits.
    pub(super) fn flush(&mut self) {
        if append(&self.spool, self.length, &self.waiting).is_ok() {
            self.length += self.waiting.len() as u64;
            self.waiting.clear();
            if let Some(Held { index, payload, .. }) = self.held.take() {
                self.count(index, payload);
            }
        }
    }

    /// Brings the spool to the disk.
    pub(super) fn sync(&self) -> io::Result<()> {
        self.spool.sync_data()
    }
}

/// Writes all of `bytes` at `offset` or leaves nothing of them.
fn append(spool: &File, offset: u64, bytes: &[u8]) -> io::Result<()> {
    spool.write_all_at(bytes, offset).inspect_err(|_| {
        // When this fails too, the next attempt overwrites the remains.
        let _ = spool.set_len(offset);
    })
}

/// A number of bytes for people, always exact.
pub(crate) fn human_bytes(bytes: u64) -> String {
    for (shift, unit) in [(30, "GiB"), (20, "MiB"), (10, "KiB")] {
        if bytes > 0 && bytes.trailing_zeros() >= shift {
            return format!("{} {unit}", bytes >> shift);
        }
    }
    format!("{bytes} bytes")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use baton_proto::spool::decode_end;

    use super::*;

    #[test]
    fn limits_are_told_exactly() {
        assert_eq!(human_bytes(64 << 20), "64 MiB");
        assert_eq!(human_bytes(1536 << 20), "1536 MiB");
        assert_eq!(human_bytes(3 << 30), "3 GiB");
        assert_eq!(human_bytes(1000), "1000 bytes");
        assert_eq!(human_bytes(0), "0 bytes");
    }

    #[test]
    fn frames_wait_whole_for_a_disk_that_is_full_and_order_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut output = Output::with(&path, 10, None).unwrap();
        output.note("before");
        let room = output.told();
        let spool = std::mem::replace(&mut output.spool, full_disk());
        output.note("one");
        output.note("two");
        assert!(output.is_blocked());
        assert_eq!(output.told(), room);
        assert_eq!(output.pipes().count(), 0);
        output.spool = spool;
        output.flush();
        assert!(!output.is_blocked());
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, output.told());
        assert!(bytes.ends_with(b"two"));
        assert_eq!(bytes.len(), 3 * HEADER_LEN + "beforeonetwo".len());
    }

    #[test]
    fn what_was_given_up_is_counted_and_not_part_of_the_checksum() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let mut output = Output::with(&path, 1 << 20, None).unwrap();
        let (stdout, mut job) = io::pipe().unwrap();
        let (stderr, job_stderr) = io::pipe().unwrap();
        output.attach(stdout.into(), stderr.into()).unwrap();
        job.write_all(b"kept").unwrap();
        output.pump();
        let spool = std::mem::replace(&mut output.spool, full_disk());
        job.write_all(b"held").unwrap();
        output.pump();
        output.note("killed");
        job.write_all(b"never read").unwrap();
        drop((job, job_stderr));
        output.stop_waiting();
        output.drain();
        assert!(!output.is_drained());
        output.give_up("no room");
        output.drain();
        assert!(output.is_drained());
        output.spool = spool;
        output.end();
        assert!(!output.is_blocked());
        let bytes = std::fs::read(&path).unwrap();
        let mut expected = Vec::new();
        for (kind, text) in [
            (Kind::Stdout, "kept"),
            (Kind::Note, "killed"),
            (Kind::Note, "no room; the rest is dropped"),
        ] {
            let at = expected.len();
            let header: [u8; HEADER_LEN] = bytes[at..at + HEADER_LEN].try_into().unwrap();
            let time = Header::decode(&header).unwrap().time;
            push_frame(&mut expected, kind, time, text.as_bytes());
            assert_eq!(bytes[at..expected.len()], expected[at..]);
        }
        let end = decode_end(&bytes[expected.len() + HEADER_LEN..]).unwrap();
        assert_eq!((end.stdout_length, end.dropped), (4, 14));
        assert_eq!(end.stdout_blake3, blake3::hash(b"kept").to_hex().as_str());
    }

    #[test]
    fn what_is_masked_and_waits_for_the_disk_comes_whole_and_in_order() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("spool");
        let masks = Masks::of(["secret"].into_iter());
        let mut output = Output::with(&path, 1 << 20, masks.as_ref()).unwrap();
        let (stdout, mut job) = io::pipe().unwrap();
        let (stderr, job_stderr) = io::pipe().unwrap();
        output.attach(stdout.into(), stderr.into()).unwrap();
        job.write_all(b"a sec").unwrap();
        output.pump();
        let first = output.told();
        assert_eq!(first, (HEADER_LEN + "a ".len()) as u64);
        let spool = std::mem::replace(&mut output.spool, full_disk());
        job.write_all(b"ret b").unwrap();
        output.pump();
        assert!(output.is_blocked());
        job.write_all(b" secre").unwrap();
        output.spool = spool;
        output.flush();
        output.pump();
        drop((job, job_stderr));
        output.drain();
        assert!(output.is_drained());
        output.end();
        let bytes = std::fs::read(&path).unwrap();
        let mut text = Vec::new();
        let mut rest = &bytes[..];
        while let Some((header, more)) = rest.split_first_chunk::<HEADER_LEN>() {
            let header = Header::decode(header).unwrap();
            let (payload, more) = more.split_at(header.len as usize);
            if header.kind == Kind::Stdout {
                text.extend_from_slice(payload);
            } else {
                let end = decode_end(payload).unwrap();
                assert_eq!(end.stdout_blake3, blake3::hash(b"a *** b secre").to_hex().as_str());
            }
            rest = more;
        }
        assert_eq!(text, b"a *** b secre");
    }

    fn full_disk() -> File {
        OpenOptions::new().write(true).open("/dev/full").unwrap()
    }
}
