//! A stream whose bytes also go, as they are read, to where they are sent from.

use std::cell::RefCell;
use std::io::{self, Read, Write as _};

use zstd::stream::write::Encoder;

use super::super::sink::Sink;

/// What went wrong with the copy. An error that comes back out of the tar
/// reader does not tell it from a fault in the archive.
#[derive(Default)]
pub(super) struct CopyFault(RefCell<Option<io::Error>>);

impl CopyFault {
    pub(super) fn take(&self) -> Option<io::Error> {
        self.0.take()
    }
}

pub(super) struct Copied<'a, R> {
    stream: R,
    copy: Encoder<'static, Sink>,
    fault: &'a CopyFault,
}

impl<'a, R: Read> Copied<'a, R> {
    pub(super) fn new(stream: R, copy: Encoder<'static, Sink>, fault: &'a CopyFault) -> Self {
        Self { stream, copy, fault }
    }

    /// The copy, all of it.
    pub(super) fn finish(self) -> io::Result<Sink> {
        self.copy.finish()
    }
}

impl<R: Read> Read for Copied<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.read(buffer)?;
        match self.copy.write_all(&buffer[..read]) {
            Ok(()) => Ok(read),
            Err(err) => {
                self.fault.0.replace(Some(err));
                Err(io::Error::other("cannot be copied"))
            }
        }
    }
}
