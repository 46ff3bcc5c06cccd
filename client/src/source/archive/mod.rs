//! Takes a tar archive that somebody made, plain or compressed, and makes of it
//! the archive that is sent: the same tar bytes, compressed anew.
//!
//! Everything is judged that a runner would judge, so that a mistake is told
//! before anything is sent. Nothing is unpacked, and nothing in here may
//! allocate by a size that a header declares.

mod copied;
mod error;
#[cfg(test)]
mod fixture;
mod format;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod tests;
pub(crate) mod tree;

use std::io::{self, Read};

use tar::{Archive, Entry};

pub use error::{ArchiveError, EntryPlace, Place};

use super::layout::entry::{self, Judged, Kind, Refusal, shown};
use super::layout::meter::{Input, Meter, Metered, StreamFault};
use super::layout::{self, LayoutFault, MAX_ENTRIES};
use super::packed::{PackLimits, PackedSource};
use super::sink::{OverLimit, Sink};
use copied::{Copied, CopyFault};
use tree::{Fault, Tree};

const BUFFER: usize = 64 << 10;

/// Reads `archive` to its end: tar, plain or compressed with gzip or zstd.
/// Blocks: run it where blocking is allowed.
///
/// Equal tar streams give equal digests, however they were compressed.
///
/// `cancelled` is asked often; soon after it says yes, this returns
/// [`ArchiveError::Cancelled`].
///
/// # Errors
/// [`ArchiveError`]; nothing is left behind.
pub fn take(
    archive: impl Read,
    limits: &PackLimits,
    cancelled: &dyn Fn() -> bool,
) -> Result<PackedSource, ArchiveError> {
    let meter = Meter::new(limits.unpacked, MAX_ENTRIES, cancelled);
    let file = tempfile::tempfile().map_err(ArchiveError::Temporary)?;
    let copy = Sink::new(file, limits.archive).compressed().map_err(ArchiveError::Temporary)?;
    let copy_fault = CopyFault::default();
    let mut taking = Taking {
        tree: Tree::new(MAX_ENTRIES),
        meter: &meter,
        copy_fault: &copy_fault,
        unpacked_limit: limits.unpacked,
        place: Place::Start,
        files: 0,
        bytes: 0,
        buffer: vec![0; BUFFER],
    };
    let stream = format::open(Input::new(archive, &meter), &|err| taking.fault(err))?;
    let mut archive = Archive::new(Copied::new(Metered::new(stream, &meter), copy, &copy_fault));
    taking.entries(&mut archive)?;
    let mut stream = archive.into_inner();
    taking.end(&mut stream)?;
    let sink = stream.finish().map_err(|err| taking.uncopied(err))?;
    PackedSource::new(sink, taking.files, taking.bytes).map_err(ArchiveError::Temporary)
}

struct Taking<'a> {
    tree: Tree,
    meter: &'a Meter<'a>,
    copy_fault: &'a CopyFault,
    unpacked_limit: u64,
    place: Place,
    files: u64,
    bytes: u64,
    buffer: Vec<u8>,
}

impl Taking<'_> {
    fn entries(&mut self, archive: &mut Archive<impl Read>) -> Result<(), ArchiveError> {
        let mut entries = archive.entries().map_err(|err| self.fault(&err))?;
        let mut number = 0;
        loop {
            self.meter.expect_headers();
            let Some(entry) = entries.next() else { return Ok(()) };
            let mut entry = entry.map_err(|err| self.fault(&err))?;
            self.meter.expect_content();
            number += 1;
            if number > MAX_ENTRIES {
                return Err(ArchiveError::Entries { limit: MAX_ENTRIES });
            }
            let name = entry.path_bytes().into_owned();
            let place = EntryPlace { number, name };
            self.place = Place::Within(place.clone());
            self.entry(&mut entry, &place)?;
            self.place = Place::After(place);
        }
    }

    fn entry(
        &mut self,
        entry: &mut Entry<'_, impl Read>,
        place: &EntryPlace,
    ) -> Result<(), ArchiveError> {
        let refused = |reason| refused(place.number, &place.name, reason);
        let judged = entry::judge(entry, &place.name).map_err(refused)?;
        let Some(judged) = judged else { return Ok(()) };
        let is_file = matches!(judged.kind, Kind::File);
        if is_file && entry.size() > self.unpacked_limit - self.bytes {
            return Err(self.too_large(self.unpacked_limit));
        }
        self.put(judged, place.number).map_err(|fault| match fault {
            Fault::Refused(reason) => refused(reason),
            Fault::Full => ArchiveError::Entries { limit: MAX_ENTRIES },
        })?;
        if is_file { self.content(entry) } else { Ok(()) }
    }

    fn put(&mut self, judged: Judged<'_>, number: u64) -> Result<(), Fault> {
        let (name, folders) = judged.names.split_last().ok_or(LayoutFault::Empty)?;
        match judged.kind {
            Kind::Folder => self.tree.folder(&judged.names).map(|_| ()),
            Kind::File => self.tree.file(folders, name),
            Kind::Symlink { target } => self.tree.symlink(folders, name, &target, number),
            Kind::HardLink { target } => {
                self.tree.hard_link(folders, name, &layout::names(&target)?)
            }
        }
    }

    fn content(&mut self, entry: &mut Entry<'_, impl Read>) -> Result<(), ArchiveError> {
        let mut left = entry.size();
        while left > 0 {
            let read = match entry.read(&mut self.buffer) {
                Ok(0) => return Err(ArchiveError::damaged(&self.place, "it ends within a file")),
                Ok(read) => read as u64,
                Err(err) => return Err(self.fault(&err)),
            };
            left = left.saturating_sub(read);
            self.bytes += read;
        }
        self.files += 1;
        Ok(())
    }

    /// What can be said only after the last entry.
    fn end(&self, stream: impl Read) -> Result<(), ArchiveError> {
        self.meter.check_end(stream).map_err(|fault| match self.copy_fault.take() {
            Some(err) => self.uncopied(err),
            None => self.stopped(fault),
        })?;
        match self.tree.astray() {
            Some((link, fault)) => Err(refused(link.number, &link.path, fault.into())),
            None => Ok(()),
        }
    }

    /// What an error from the stream means.
    fn fault(&self, err: &io::Error) -> ArchiveError {
        match self.copy_fault.take() {
            Some(err) => self.uncopied(err),
            None => self.stopped(self.meter.fault(err)),
        }
    }

    fn stopped(&self, fault: StreamFault) -> ArchiveError {
        match fault {
            StreamFault::Damaged(what) => ArchiveError::damaged(&self.place, &what),
            StreamFault::TooLarge { limit } => self.too_large(limit),
            StreamFault::Headers { limit } => {
                ArchiveError::Headers { place: self.place.clone(), limit }
            }
            StreamFault::Read(source) => ArchiveError::Read(source),
            StreamFault::Cancelled => ArchiveError::Cancelled,
        }
    }

    fn uncopied(&self, err: io::Error) -> ArchiveError {
        match OverLimit::within(&err) {
            Some(&OverLimit { size, limit }) => {
                ArchiveError::Packed { place: self.place.clone(), size, limit }
            }
            None => ArchiveError::Temporary(err),
        }
    }

    fn too_large(&self, limit: u64) -> ArchiveError {
        ArchiveError::Unpacked { place: self.place.clone(), limit }
    }
}

fn refused(number: u64, name: &[u8], reason: Refusal) -> ArchiveError {
    ArchiveError::Refused { number, entry: shown(name), reason }
}
