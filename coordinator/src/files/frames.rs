//! Checks a log while it arrives, in pieces of any size, and takes down where
//! its frames are.
//!
//! What a runner sends is not trusted: nothing is kept before it went through
//! [`Frames::feed`]. No I/O in here.

use baton_proto::spool::{self, HEADER_LEN, Header, Kind};

use super::{
    error::{FilesError, LogFault, Result},
    index::Point,
};

/// How far into a log the bytes so far have come.
#[derive(Clone, Debug, Default)]
pub(super) struct Frames {
    /// Where the frame starts that is being read, and the bytes of both streams before it.
    start: Point,
    /// The header's bytes so far.
    header: [u8; HEADER_LEN],
    header_len: usize,
    /// The whole header, and how many bytes of its payload have come.
    payload: Option<(Header, usize)>,
    /// The payload so far of a frame that is checked as a whole.
    held: Vec<u8>,
    /// The last frame was the end.
    ended: bool,
}

impl Frames {
    /// The start of the frame that is being read: all before it are whole.
    pub(super) const fn boundary(&self) -> u64 {
        self.start.position
    }

    /// Whether the log is whole: the last byte is the last of an end frame.
    pub(super) const fn ended(&self) -> bool {
        self.ended
    }

    /// Takes the next bytes. `points` gets where frames start, at least
    /// `spacing` bytes after the last point before them, which `points` must
    /// have.
    ///
    /// # Errors
    /// [`FilesError::MalformedLog`]; then only [`Self::boundary`] means anything.
    pub(super) fn feed(
        &mut self,
        mut bytes: &[u8],
        spacing: u64,
        points: &mut Vec<Point>,
    ) -> Result<()> {
        while !bytes.is_empty() {
            bytes = match self.payload {
                None => self.feed_header(bytes),
                Some((header, done)) => self.feed_payload(header, done, bytes),
            }
            .map_err(|fault| FilesError::MalformedLog { position: self.boundary(), fault })?;
            if points.last().is_none_or(|last| self.boundary() - last.position >= spacing) {
                points.push(self.start);
            }
        }
        Ok(())
    }

    fn feed_header<'a>(&mut self, bytes: &'a [u8]) -> Result<&'a [u8], LogFault> {
        if self.ended {
            return Err(LogFault::AfterEnd);
        }
        let (now, rest) = bytes.split_at(bytes.len().min(HEADER_LEN - self.header_len));
        self.header[self.header_len..][..now.len()].copy_from_slice(now);
        self.header_len += now.len();
        if self.header_len == HEADER_LEN {
            let header = Header::decode(&self.header)?;
            self.payload = Some((header, 0));
            if header.len == 0 {
                self.finish(header)?;
            }
        }
        Ok(rest)
    }

    fn feed_payload<'a>(
        &mut self,
        header: Header,
        done: usize,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], LogFault> {
        let (now, rest) = bytes.split_at(bytes.len().min(header.len as usize - done));
        if matches!(header.kind, Kind::Note | Kind::End) {
            self.held.extend_from_slice(now);
        }
        let done = done + now.len();
        self.payload = Some((header, done));
        if done == header.len as usize {
            self.finish(header)?;
        }
        Ok(rest)
    }

    fn finish(&mut self, header: Header) -> Result<(), LogFault> {
        match header.kind {
            Kind::Stdout | Kind::Stderr => {}
            Kind::Note => {
                std::str::from_utf8(&self.held).map_err(|_| LogFault::Note)?;
            }
            Kind::End => {
                let end = spool::decode_end(&self.held)?;
                if (end.stdout_length, end.stderr_length) != (self.start.stdout, self.start.stderr)
                {
                    return Err(LogFault::Lengths);
                }
                self.ended = true;
            }
        }
        self.start = self.start.after(header);
        self.header_len = 0;
        self.payload = None;
        self.held = Vec::new();
        Ok(())
    }
}
