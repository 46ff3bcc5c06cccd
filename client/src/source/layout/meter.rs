//! Counts what comes out of a decompressor, and stops it in time.
//!
//! The tar reader collects long names and extended headers in memory and skips
//! padding without asking; limiting the stream beneath it bounds all of that at
//! once. It also remembers what really went wrong, which an error that has
//! passed through two libraries no longer tells.

use std::cell::{Cell, RefCell};
use std::io::{self, Read};

/// The largest window a zstd frame may ask for, as a power of two: 128 MiB.
pub const WINDOW_LOG_MAX: u32 = 27;
/// Headers, long names and extensions of one entry, or padding after the last.
const HEADERS_MAX: u64 = 256 << 10;
/// Headers and padding per entry, on average over the archive, in bytes.
const OVERHEAD_PER_ENTRY: u64 = 4096;

/// Why a stream was not read to its end.
#[derive(Debug, thiserror::Error)]
pub enum StreamFault {
    /// Cut off, altered, or followed by something.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It unpacks to more than it may.
    #[error("it unpacks to more than {limit} bytes")]
    TooLarge {
        /// The limit, in bytes.
        limit: u64,
    },
    /// Names and extended headers of one entry are larger than any real ones.
    #[error("it has an entry with more than {limit} bytes of headers")]
    Headers {
        /// The limit, in bytes.
        limit: u64,
    },
    /// The bytes could not be read, for a reason that lies in this machine.
    #[error("it cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The caller asked to stop.
    #[error("reading was cancelled")]
    Cancelled,
}

/// What the layers of a stream share.
pub struct Meter<'a> {
    cancelled: &'a dyn Fn() -> bool,
    bytes_limit: u64,
    stream_left: Cell<u64>,
    headers_left: Cell<u64>,
    ended: Cell<bool>,
    cause: RefCell<Option<StreamFault>>,
}

impl<'a> Meter<'a> {
    /// For an archive whose files have `bytes` at most and that has no more
    /// than `entries`. `cancelled` is asked often.
    pub fn new(bytes: u64, entries: u64, cancelled: &'a dyn Fn() -> bool) -> Self {
        let overhead = entries.saturating_mul(OVERHEAD_PER_ENTRY);
        let stream = bytes.saturating_add(overhead).saturating_add(HEADERS_MAX);
        Self {
            cancelled,
            bytes_limit: bytes,
            stream_left: Cell::new(stream),
            headers_left: Cell::new(HEADERS_MAX),
            ended: Cell::new(false),
            cause: RefCell::new(None),
        }
    }

    /// What is read from now on stands before an entry's content.
    pub fn expect_headers(&self) {
        self.headers_left.set(HEADERS_MAX);
    }

    /// What is read from now on is an entry's content.
    pub fn expect_content(&self) {
        self.headers_left.set(u64::MAX);
    }

    /// What an error from the stream means: the cause noted here, or else a
    /// fault in the archive's bytes.
    pub fn fault(&self, err: &io::Error) -> StreamFault {
        self.cause.take().unwrap_or_else(|| StreamFault::Damaged(err.to_string()))
    }

    /// After the last entry: there must be an end marker, and after it nothing
    /// but padding.
    ///
    /// # Errors
    /// [`StreamFault`].
    pub fn check_end(&self, mut stream: impl Read) -> Result<(), StreamFault> {
        if self.ended.get() {
            return Err(StreamFault::Damaged("it ends without an end marker".into()));
        }
        self.expect_headers();
        let mut padding = [0; 4096];
        loop {
            match stream.read(&mut padding).map_err(|err| self.fault(&err))? {
                0 => return Ok(()),
                read if padding[..read].iter().all(|byte| *byte == 0) => {}
                _ => return Err(StreamFault::Damaged("something follows its end".into())),
            }
        }
    }

    fn allowance(&self) -> Result<u64, StreamFault> {
        if (self.cancelled)() {
            return Err(StreamFault::Cancelled);
        }
        if self.stream_left.get() == 0 {
            return Err(StreamFault::TooLarge { limit: self.bytes_limit });
        }
        if self.headers_left.get() == 0 {
            return Err(StreamFault::Headers { limit: HEADERS_MAX });
        }
        Ok(self.stream_left.get().min(self.headers_left.get()))
    }

    fn count(&self, read: u64) {
        self.stream_left.set(self.stream_left.get().saturating_sub(read));
        self.headers_left.set(self.headers_left.get().saturating_sub(read));
    }

    fn note(&self, cause: StreamFault) -> io::Error {
        let err = io::Error::other(cause.to_string());
        self.cause.replace(Some(cause));
        err
    }
}

/// A decompressed stream that is counted.
pub struct Metered<'a, R> {
    stream: R,
    meter: &'a Meter<'a>,
}

impl<'a, R: Read> Metered<'a, R> {
    /// Counts `stream` with `meter`.
    pub fn new(stream: R, meter: &'a Meter<'a>) -> Self {
        Self { stream, meter }
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let allowance = self.meter.allowance().map_err(|cause| self.meter.note(cause))?;
        let length = usize::try_from(allowance).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.stream.read(&mut buffer[..length])?;
        self.meter.ended.set(read == 0);
        self.meter.count(read as u64);
        Ok(read)
    }
}

/// The bytes beneath a decompressor; an error here is the machine's, not the
/// archive's.
pub struct Input<'a, R> {
    archive: R,
    meter: &'a Meter<'a>,
}

impl<'a, R: Read> Input<'a, R> {
    /// Notes with `meter` what reading `archive` says.
    pub fn new(archive: R, meter: &'a Meter<'a>) -> Self {
        Self { archive, meter }
    }
}

impl<R: Read> Read for Input<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if (self.meter.cancelled)() {
                return Err(self.meter.note(StreamFault::Cancelled));
            }
            match self.archive.read(buffer) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(self.meter.note(StreamFault::Read(err))),
                read => return read,
            }
        }
    }
}
