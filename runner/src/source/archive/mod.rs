//! Unpacks a `tar.zst` archive into an empty folder, safely against whatever
//! the archive says.
//!
//! Two lines of defence, each enough alone: names and link targets are judged
//! by their text, and the file system is reached through handles of folders
//! opened without following links ([`Creation`]). Nothing in here may open a path
//! of more than one name, nor allocate by a size that a header declares.

#[cfg(test)]
mod agreement;
mod error;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod foreign;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod hostile;

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use baton_client::source::layout::entry::{self, Judged, Kind};
use baton_client::source::layout::meter::{Input, Meter, Metered, WINDOW_LOG_MAX};
use baton_client::source::layout::{self, DEFAULT_UNPACKED_LIMIT, MAX_ENTRIES};
use baton_client::tree::{Creation, CreationFault, seal};
use tar::{Archive, Entry};
use zstd::stream::read::Decoder;

pub use baton_client::source::layout::entry::Refusal;
pub use error::UnpackError;

const COPY_BUFFER: usize = 64 << 10;

/// How much an archive may become.
#[derive(Debug, Clone)]
pub struct UnpackLimits {
    /// The sum of all files' sizes, in bytes.
    pub bytes: u64,
    /// Files, folders and links together.
    pub entries: u64,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        Self { bytes: DEFAULT_UNPACKED_LIMIT, entries: MAX_ENTRIES }
    }
}

/// What was unpacked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Regular files; a hard link is none.
    pub files: u64,
    /// The sum of their sizes, in bytes.
    pub bytes: u64,
}

/// Unpacks `archive` into `dest`, which exists, is empty, and is written to by
/// nobody else meanwhile. Blocks: run it where blocking is allowed.
///
/// Modes are cut down to `rwxr-xr-x` at most and are `rw-------` at least;
/// owners are dropped; modification times are kept, a folder's only where the
/// archive lists a folder's content right after it.
///
/// `cancelled` is asked often; soon after it says yes, this returns
/// [`UnpackError::Cancelled`].
///
/// # Errors
/// [`UnpackError`]. What was unpacked until then stays in `dest`, for the
/// caller to remove.
pub fn unpack(
    archive: impl Read,
    dest: &Path,
    limits: &UnpackLimits,
    cancelled: &dyn Fn() -> bool,
) -> Result<Unpacked, UnpackError> {
    let tree = Creation::open(dest, limits.entries)
        .map_err(|source| UnpackError::Destination { path: dest.into(), source })?;
    let meter = Meter::new(limits.bytes, limits.entries, cancelled);
    let mut decoder = Decoder::new(Input::new(archive, &meter)).map_err(UnpackError::Read)?;
    decoder.window_log_max(WINDOW_LOG_MAX).map_err(UnpackError::Read)?;
    let mut archive = Archive::new(Metered::new(decoder, &meter));
    let mut unpacking = Unpacking {
        tree,
        meter: &meter,
        limits,
        so_far: Unpacked::default(),
        buffer: vec![0; COPY_BUFFER],
    };
    unpacking.entries(&mut archive)?;
    meter.check_end(archive.into_inner())?;
    let Unpacking { tree, so_far, .. } = unpacking;
    tree.close().map_err(|(fault, path)| of_creation(fault, limits).about(&path))?;
    Ok(so_far)
}

struct Unpacking<'a> {
    tree: Creation,
    meter: &'a Meter<'a>,
    limits: &'a UnpackLimits,
    so_far: Unpacked,
    buffer: Vec<u8>,
}

impl Unpacking<'_> {
    fn entries(&mut self, archive: &mut Archive<impl Read>) -> Result<(), UnpackError> {
        let mut entries = archive.entries().map_err(|err| self.meter.fault(&err))?;
        let mut seen = 0;
        loop {
            self.meter.expect_headers();
            let Some(entry) = entries.next() else { return Ok(()) };
            let mut entry = entry.map_err(|err| self.meter.fault(&err))?;
            self.meter.expect_content();
            seen += 1;
            if seen > self.limits.entries {
                return Err(UnpackError::TooManyEntries { limit: self.limits.entries });
            }
            let name = entry.path_bytes().into_owned();
            self.entry(&mut entry, &name).map_err(|fault| fault.about(&name))?;
        }
    }

    fn entry(&mut self, entry: &mut Entry<'_, impl Read>, name: &[u8]) -> Result<(), Fault> {
        let Some(Judged { names, kind, mode, mtime }) = entry::judge(entry, name)? else {
            return Ok(());
        };
        let (last, folders) = names.split_last().ok_or(layout::LayoutFault::Empty)?;
        match kind {
            Kind::Folder => self.created(|tree| tree.folder(&names, mode, Some(mtime))),
            Kind::File => {
                let left = self.limits.bytes - self.so_far.bytes;
                if entry.size() > left {
                    return Err(UnpackError::TooLarge { limit: self.limits.bytes }.into());
                }
                let file = self.created(|tree| tree.create(folders, last))?;
                self.content(entry, &file)?;
                Ok(seal(&file, mode, Some(mtime))?)
            }
            Kind::Symlink { target } => {
                self.created(|tree| tree.symlink(folders, last, &target, Some(mtime)))
            }
            Kind::HardLink { target } => {
                let target = layout::names(&target)?;
                self.created(|tree| tree.hard_link(folders, last, &target))
            }
        }
    }

    fn created<T>(
        &mut self,
        create: impl FnOnce(&mut Creation) -> Result<T, CreationFault>,
    ) -> Result<T, Fault> {
        create(&mut self.tree).map_err(|fault| of_creation(fault, self.limits))
    }

    fn content(&mut self, entry: &mut Entry<'_, impl Read>, mut file: &File) -> Result<(), Fault> {
        let mut left = entry.size();
        while left > 0 {
            let read = match entry.read(&mut self.buffer) {
                Ok(0) => return Err(UnpackError::Damaged("it ends within a file".into()).into()),
                Ok(read) => read,
                Err(err) => return Err(UnpackError::from(self.meter.fault(&err)).into()),
            };
            file.write_all(&self.buffer[..read])?;
            left = left.saturating_sub(read as u64);
            self.so_far.bytes += read as u64;
        }
        self.so_far.files += 1;
        Ok(())
    }
}

/// What went wrong with one entry, before its name is put to it.
enum Fault {
    Refused(Refusal),
    Local(io::Error),
    Other(UnpackError),
}

fn of_creation(fault: CreationFault, limits: &UnpackLimits) -> Fault {
    match fault {
        CreationFault::Refused(reason) => Fault::Refused(reason),
        CreationFault::Full => UnpackError::TooManyEntries { limit: limits.entries }.into(),
        CreationFault::Local(source) => Fault::Local(source),
    }
}

impl Fault {
    fn about(self, name: &[u8]) -> UnpackError {
        let entry = entry::shown(name);
        match self {
            Self::Refused(reason) => UnpackError::Refused { entry, reason },
            Self::Local(source) => UnpackError::Write { entry, source },
            Self::Other(err) => err,
        }
    }
}

impl From<Refusal> for Fault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<layout::LayoutFault> for Fault {
    fn from(fault: layout::LayoutFault) -> Self {
        Self::Refused(fault.into())
    }
}

impl From<io::Error> for Fault {
    fn from(err: io::Error) -> Self {
        Self::Local(err)
    }
}

impl From<UnpackError> for Fault {
    fn from(err: UnpackError) -> Self {
        Self::Other(err)
    }
}
