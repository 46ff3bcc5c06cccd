//! Counts what comes out of the decompressor, and stops it in time.
//!
//! The tar reader collects long names and extended headers in memory and skips
//! padding without asking; limiting the stream beneath it bounds all of that at
//! once. It also remembers what really went wrong, which an error that has
//! passed through two libraries no longer tells.

use std::cell::{Cell, RefCell};
use std::io::{self, BufReader, Read};

use zstd::stream::read::Decoder;

use super::{UnpackError, UnpackLimits};

/// The largest window a frame may ask for, as a power of two: 128 MiB.
const WINDOW_LOG_MAX: u32 = 27;
/// Headers, long names and extensions of one entry, or padding after the last.
const HEADERS_MAX: u64 = 256 << 10;
/// Headers and padding per entry, on average over the archive, in bytes.
const OVERHEAD_PER_ENTRY: u64 = 4096;

/// What the layers of the stream share.
pub(super) struct Meter<'a> {
    cancelled: &'a dyn Fn() -> bool,
    bytes_limit: u64,
    stream_left: Cell<u64>,
    headers_left: Cell<u64>,
    ended: Cell<bool>,
    cause: RefCell<Option<UnpackError>>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(limits: &UnpackLimits, cancelled: &'a dyn Fn() -> bool) -> Self {
        let overhead = limits.entries.saturating_mul(OVERHEAD_PER_ENTRY);
        let stream = limits.bytes.saturating_add(overhead).saturating_add(HEADERS_MAX);
        Self {
            cancelled,
            bytes_limit: limits.bytes,
            stream_left: Cell::new(stream),
            headers_left: Cell::new(HEADERS_MAX),
            ended: Cell::new(false),
            cause: RefCell::new(None),
        }
    }

    pub(super) fn expect_headers(&self) {
        self.headers_left.set(HEADERS_MAX);
    }

    pub(super) fn expect_content(&self) {
        self.headers_left.set(u64::MAX);
    }

    /// What an error from the stream means: the cause noted here, or else a
    /// fault in the archive's bytes.
    pub(super) fn fault(&self, err: &io::Error) -> UnpackError {
        self.cause.take().unwrap_or_else(|| UnpackError::Damaged(err.to_string()))
    }

    /// After the last entry: there must be an end marker, and after it nothing
    /// but padding.
    pub(super) fn check_end(&self, mut stream: impl Read) -> Result<(), UnpackError> {
        if self.ended.get() {
            return Err(UnpackError::Damaged("it ends without an end marker".into()));
        }
        self.expect_headers();
        let mut padding = [0; 4096];
        loop {
            match stream.read(&mut padding).map_err(|err| self.fault(&err))? {
                0 => return Ok(()),
                read if padding[..read].iter().all(|byte| *byte == 0) => {}
                _ => return Err(UnpackError::Damaged("something follows its end".into())),
            }
        }
    }

    fn allowance(&self) -> Result<u64, UnpackError> {
        if (self.cancelled)() {
            return Err(UnpackError::Cancelled);
        }
        if self.stream_left.get() == 0 {
            return Err(UnpackError::TooLarge { limit: self.bytes_limit });
        }
        if self.headers_left.get() == 0 {
            return Err(UnpackError::Headers { limit: HEADERS_MAX });
        }
        Ok(self.stream_left.get().min(self.headers_left.get()))
    }

    fn count(&self, read: u64) {
        self.stream_left.set(self.stream_left.get().saturating_sub(read));
        self.headers_left.set(self.headers_left.get().saturating_sub(read));
    }

    fn note(&self, cause: UnpackError) -> io::Error {
        let err = io::Error::other(cause.to_string());
        self.cause.replace(Some(cause));
        err
    }
}

/// The decompressed stream.
pub(super) struct Metered<'a, R: Read> {
    decoder: Decoder<'static, BufReader<Input<'a, R>>>,
    meter: &'a Meter<'a>,
}

impl<'a, R: Read> Metered<'a, R> {
    pub(super) fn new(archive: R, meter: &'a Meter<'a>) -> io::Result<Self> {
        let mut decoder = Decoder::new(Input { archive, meter })?;
        decoder.window_log_max(WINDOW_LOG_MAX)?;
        Ok(Self { decoder, meter })
    }
}

impl<R: Read> Read for Metered<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let allowance = self.meter.allowance().map_err(|cause| self.meter.note(cause))?;
        let length = usize::try_from(allowance).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.decoder.read(&mut buffer[..length])?;
        self.meter.ended.set(read == 0);
        self.meter.count(read as u64);
        Ok(read)
    }
}

/// The compressed bytes; an error here is the machine's, not the archive's.
struct Input<'a, R> {
    archive: R,
    meter: &'a Meter<'a>,
}

impl<R: Read> Read for Input<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.archive.read(buffer) {
                Err(err) if err.kind() == io::ErrorKind::Interrupted => {}
                Err(err) => return Err(self.meter.note(UnpackError::Read(err))),
                read => return read,
            }
        }
    }
}
