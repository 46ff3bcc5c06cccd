//! Makes a folder of a tree, safely against whatever the tree says: what it may say was
//! judged by its text ([`Tree`]), and the file system is reached by single names only
//! ([`Creation`]).

use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

use blake3::{Hash, Hasher};
use nix::fcntl::copy_file_range;

use super::{Chunk, Creation, CreationFault, Entry, Kind, Tree, creation::seal};
use crate::source::layout::{
    self, LayoutFault,
    entry::{Refusal, shown},
};

/// From so many bytes on the system copies them by itself, and shares them where the file
/// system can.
const COPIED: usize = 128 << 10;
const FOLDER_MODE: u32 = 0o755;

/// Why no folder came of a tree.
#[derive(Debug, thiserror::Error)]
pub enum MaterializeError {
    /// A chunk is not there, or is not what its name says: it has to be fetched again.
    #[error("the chunk {} is {what}", digest.to_hex())]
    Chunk {
        /// Which.
        digest: Hash,
        /// "missing" or "damaged".
        what: &'static str,
    },
    /// The chunks do not have the file that the tree names.
    #[error("the file {entry} is not what the tree says")]
    File {
        /// Its path, quoted, cut to a bearable length.
        entry: String,
    },
    /// An entry that must not be.
    #[error("the entry {entry} is refused: {reason}")]
    Refused {
        /// Its path, quoted, cut to a bearable length.
        entry: String,
        /// What is wrong with it.
        reason: Refusal,
    },
    /// The folder is not there, or not empty.
    #[error("cannot write into {}: {source}", path.display())]
    Destination {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Something in it cannot be written.
    #[error("cannot write {entry}: {source}")]
    Write {
        /// Its path, quoted, cut to a bearable length.
        entry: String,
        /// What the system said.
        source: io::Error,
    },
    /// A chunk cannot be read, for a reason that lies in this machine.
    #[error("cannot read a chunk: {0}")]
    Read(#[source] io::Error),
    /// The caller asked to stop.
    #[error("bringing the folder was cancelled")]
    Cancelled,
}

impl MaterializeError {
    /// Whether the fault is in the tree, so that it is the same everywhere.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        matches!(self, Self::File { .. } | Self::Refused { .. })
    }
}

/// What was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Materialized {
    /// Regular files.
    pub files: u64,
    /// The sum of their sizes, in bytes.
    pub bytes: u64,
}

/// Makes the content of `dest`, an empty folder that nobody else writes to meanwhile.
/// `open` gives a file with the bytes of a chunk, or none if it has none. Blocks: run it
/// where blocking is allowed.
///
/// `cancelled` is asked often; soon after it says yes, this returns
/// [`MaterializeError::Cancelled`].
///
/// # Errors
/// [`MaterializeError`]. What was made until then stays in `dest`, for the caller to
/// remove.
pub fn materialize(
    tree: &Tree,
    dest: &Path,
    open: &mut dyn FnMut(&Chunk) -> io::Result<Option<File>>,
    cancelled: &dyn Fn() -> bool,
) -> Result<Materialized, MaterializeError> {
    let limit = tree.entries().len() as u64;
    let mut creation = Creation::open(dest, limit)
        .map_err(|source| MaterializeError::Destination { path: dest.into(), source })?;
    let mut content = Content { chunks: tree.chunks().iter(), open, cancelled, held: None };
    for entry in tree.entries() {
        if cancelled() {
            return Err(MaterializeError::Cancelled);
        }
        create(&mut creation, entry, &mut content).map_err(|fault| fault.about(&entry.path))?;
    }
    creation.close().map_err(|(fault, path)| Fault::from(fault).about(&path))?;
    Ok(Materialized { files: tree.files(), bytes: tree.content() })
}

fn create(creation: &mut Creation, entry: &Entry, content: &mut Content<'_>) -> Result<(), Fault> {
    let names = layout::names(&entry.path).map_err(CreationFault::from)?;
    let Some((name, folders)) = names.split_last() else {
        return Err(CreationFault::from(LayoutFault::Empty).into());
    };
    match &entry.kind {
        Kind::Folder => Ok(creation.folder(&names, FOLDER_MODE, None)?),
        Kind::Link { target } => Ok(creation.symlink(folders, name, target, None)?),
        Kind::File { size, digest, mode } => {
            let file = creation.create(folders, name)?;
            if content.write(&file, *size)? != *digest {
                let entry = shown(&entry.path);
                return Err(Fault::Other(MaterializeError::File { entry }));
            }
            Ok(seal(&file, *mode, None).map_err(CreationFault::from)?)
        }
    }
}

/// The content of all files that are yet to come.
struct Content<'a> {
    chunks: std::slice::Iter<'a, Chunk>,
    open: &'a mut dyn FnMut(&Chunk) -> io::Result<Option<File>>,
    cancelled: &'a dyn Fn() -> bool,
    held: Option<Held>,
}

/// A chunk of which not everything is written yet.
struct Held {
    file: File,
    bytes: Vec<u8>,
    written: usize,
}

impl Content<'_> {
    /// Writes the next `size` bytes to a new file, and gives their digest.
    fn write(&mut self, file: &File, size: u64) -> Result<Hash, Fault> {
        let (mut hasher, mut left) = (Hasher::new(), size);
        while left > 0 {
            let mut held = match self.held.take() {
                Some(held) => held,
                None => self.next().map_err(Fault::Other)?,
            };
            let rest = held.bytes.len() - held.written;
            let length = usize::try_from(left).unwrap_or(usize::MAX).min(rest);
            hasher.update(&held.bytes[held.written..][..length]);
            held.write(file, length).map_err(CreationFault::from)?;
            left -= length as u64;
            if length < rest {
                self.held = Some(held);
            }
        }
        Ok(hasher.finalize())
    }

    fn next(&mut self) -> Result<Held, MaterializeError> {
        if (self.cancelled)() {
            return Err(MaterializeError::Cancelled);
        }
        // The sums of a tree agree.
        let chunk = self
            .chunks
            .next()
            .ok_or_else(|| MaterializeError::Read(io::ErrorKind::UnexpectedEof.into()))?;
        let wrong = |what| MaterializeError::Chunk { digest: chunk.digest, what };
        let file = (self.open)(chunk).map_err(MaterializeError::Read)?;
        let file = file.ok_or_else(|| wrong("missing"))?;
        let mut bytes = vec![0; chunk.length as usize];
        match file.read_exact_at(&mut bytes, 0) {
            Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => return Err(wrong("damaged")),
            read => read.map_err(MaterializeError::Read)?,
        }
        if blake3::hash(&bytes) != chunk.digest {
            return Err(wrong("damaged"));
        }
        Ok(Held { file, bytes, written: 0 })
    }
}

impl Held {
    /// Writes the next bytes to where `file` stands.
    fn write(&mut self, mut file: &File, length: usize) -> io::Result<()> {
        let end = self.written + length;
        while length >= COPIED && self.written < end {
            let mut from = self.written.try_into().map_err(io::Error::other)?;
            match copy_file_range(&self.file, Some(&mut from), file, None, end - self.written) {
                Ok(copied) if copied > 0 => self.written += copied,
                // Some file systems cannot, and some kernels not between two of them.
                Ok(_) | Err(_) => break,
            }
        }
        file.write_all(&self.bytes[self.written..end])?;
        self.written = end;
        Ok(())
    }
}

/// What went wrong with one entry, before its path is put to it.
enum Fault {
    Creation(CreationFault),
    Other(MaterializeError),
}

impl From<CreationFault> for Fault {
    fn from(fault: CreationFault) -> Self {
        Self::Creation(fault)
    }
}

impl Fault {
    fn about(self, path: &[u8]) -> MaterializeError {
        let entry = shown(path);
        match self {
            Self::Other(err) => err,
            Self::Creation(CreationFault::Local(source)) => {
                MaterializeError::Write { entry, source }
            }
            Self::Creation(CreationFault::Refused(reason)) => {
                MaterializeError::Refused { entry, reason }
            }
            // Each entry is created once.
            Self::Creation(CreationFault::Full) => {
                MaterializeError::Refused { entry, reason: Refusal::Taken }
            }
        }
    }
}
