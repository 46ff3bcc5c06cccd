//! Writes entries as a compressed tar stream.
//!
//! Headers carry name, kind, mode, size and time, and nothing else: an owner
//! in them would make equal folders differ.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use tar::{Builder, EntryType, Header};
use zstd::stream::write::Encoder;

use super::super::sink::{OverLimit, Sink};
use super::walk::{Entry, Kind, Stamp, unreadable};
use super::{PackError, PackProgress};

const PROGRESS_STEP: u64 = 1 << 20;

pub(super) struct Writer<'a> {
    root: &'a Path,
    tar: Builder<Encoder<'static, Sink>>,
    so_far: PackProgress,
    progress: &'a dyn Fn(PackProgress),
    cancelled: &'a dyn Fn() -> bool,
}

impl<'a> Writer<'a> {
    pub(super) fn new(
        root: &'a Path,
        sink: Sink,
        so_far: PackProgress,
        progress: &'a dyn Fn(PackProgress),
        cancelled: &'a dyn Fn() -> bool,
    ) -> Result<Self, PackError> {
        let encoder = sink.compressed().map_err(PackError::Temporary)?;
        Ok(Self { root, tar: Builder::new(encoder), so_far, progress, cancelled })
    }

    pub(super) fn append(&mut self, entry: &Entry) -> Result<(), PackError> {
        if (self.cancelled)() {
            return Err(PackError::Cancelled);
        }
        let mut name = entry.path.as_os_str().as_bytes().to_vec();
        let mut header = Header::new_gnu();
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(entry.mtime);
        match &entry.kind {
            Kind::Folder => {
                name.push(b'/');
                header.set_entry_type(EntryType::Directory);
                header.set_mode(0o755);
                self.header_only(&mut header, &name)?;
            }
            Kind::Link { target } => {
                header.set_entry_type(EntryType::Symlink);
                header.set_mode(0o777);
                let target = target.as_os_str().as_bytes();
                self.long_field(target, EntryType::GNULongLink)?;
                fill(&mut header.as_old_mut().linkname, target);
                self.header_only(&mut header, &name)?;
            }
            Kind::File { size, executable, stamp } => {
                header.set_entry_type(EntryType::Regular);
                header.set_mode(if *executable { 0o755 } else { 0o644 });
                header.set_size(*size);
                self.file(&mut header, &name, &entry.path, *stamp)?;
            }
        }
        self.report();
        Ok(())
    }

    pub(super) fn finish(self) -> Result<Sink, PackError> {
        self.tar.into_inner().and_then(Encoder::finish).map_err(unwritten)
    }

    fn header_only(&mut self, header: &mut Header, name: &[u8]) -> Result<(), PackError> {
        header.set_size(0);
        self.named(header, name)?;
        self.tar.append(header, io::empty()).map_err(unwritten)
    }

    fn file(
        &mut self,
        header: &mut Header,
        name: &[u8],
        path: &Path,
        stamp: Stamp,
    ) -> Result<(), PackError> {
        let file = open(&self.root.join(path)).map_err(|source| unreadable(path, source))?;
        let unchanged = |file: &File| match file.metadata() {
            Ok(metadata) if Stamp::of(&metadata) == stamp => Ok(()),
            Ok(_) => Err(PackError::Changed { path: path.into() }),
            Err(source) => Err(unreadable(path, source)),
        };
        unchanged(&file)?;
        self.named(header, name)?;
        let size = header.size().map_err(PackError::Temporary)?;
        let mut content = Content {
            file: (&file).take(size),
            fault: None,
            cancelled: self.cancelled,
            progress: self.progress,
            so_far: self.so_far,
            untold: 0,
        };
        let appended = self.tar.append(header, &mut content);
        let (fault, unread, so_far) = (content.fault, content.file.limit(), content.so_far);
        match fault {
            Some(Fault::Cancelled) => return Err(PackError::Cancelled),
            Some(Fault::Read(source)) => return Err(unreadable(path, source)),
            None => appended.map_err(unwritten)?,
        }
        if unread > 0 {
            return Err(PackError::Changed { path: path.into() });
        }
        unchanged(&file)?;
        self.so_far = so_far;
        self.so_far.files += 1;
        Ok(())
    }

    fn named(&mut self, header: &mut Header, name: &[u8]) -> Result<(), PackError> {
        self.long_field(name, EntryType::GNULongName)?;
        fill(&mut header.as_old_mut().name, name);
        header.set_cksum();
        Ok(())
    }

    /// A value too long for its header field goes before it as an entry of its
    /// own. The tar crate does this too, but fails on names that are not UTF-8.
    fn long_field(&mut self, value: &[u8], entry_type: EntryType) -> Result<(), PackError> {
        if value.len() <= Header::new_old().as_old().name.len() {
            return Ok(());
        }
        let mut header = Header::new_gnu();
        fill(&mut header.as_old_mut().name, b"././@LongLink");
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_entry_type(entry_type);
        header.set_mode(0o644);
        header.set_size(value.len() as u64 + 1);
        header.set_cksum();
        self.tar.append(&header, value.chain(&b"\0"[..])).map_err(unwritten)
    }

    fn report(&mut self) {
        self.so_far.archive = self.tar.get_ref().get_ref().size;
        (self.progress)(self.so_far);
    }
}

fn fill(field: &mut [u8], value: &[u8]) {
    let length = value.len().min(field.len());
    field[..length].copy_from_slice(&value[..length]);
}

/// Does not follow a link and does not wait for a pipe's other end, should the
/// file have become one since it was listed.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
}

fn unwritten(err: io::Error) -> PackError {
    match OverLimit::within(&err) {
        Some(&OverLimit { size, limit }) => PackError::Archive { size, limit, largest: Vec::new() },
        None => PackError::Temporary(err),
    }
}

enum Fault {
    Read(io::Error),
    Cancelled,
}

/// A file's bytes; remembers what went wrong, since an error that comes back
/// out of the tar writer may as well be the archive's.
struct Content<'a> {
    file: io::Take<&'a File>,
    fault: Option<Fault>,
    cancelled: &'a dyn Fn() -> bool,
    progress: &'a dyn Fn(PackProgress),
    so_far: PackProgress,
    untold: u64,
}

impl Read for Content<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if (self.cancelled)() {
            self.fault = Some(Fault::Cancelled);
            return Err(io::Error::other("cancelled"));
        }
        let read = match self.file.read(buffer) {
            Ok(read) => read as u64,
            Err(err) if err.kind() == io::ErrorKind::Interrupted => return Err(err),
            Err(err) => {
                self.fault = Some(Fault::Read(err));
                return Err(io::Error::other("unreadable"));
            }
        };
        self.so_far.bytes += read;
        self.untold += read;
        if self.untold >= PROGRESS_STEP {
            self.untold = 0;
            (self.progress)(self.so_far);
        }
        Ok(read as usize)
    }
}
