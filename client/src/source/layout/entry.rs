//! Judges one entry of a tar archive by its headers: by what it is, what it is
//! called, and what it points at.
//!
//! Whether its place is free, and whether the target of a hard link is there,
//! is for whoever knows the entries before it.

use std::io::Read;

use tar::{Entry, EntryType};

use super::{LayoutFault, check_link, names};

const SHOWN: usize = 200;

/// Why an entry is not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Its name or its target breaks the rules.
    #[error(transparent)]
    Layout(#[from] LayoutFault),
    /// A character or block device.
    #[error("it is a device")]
    Device,
    /// A named pipe.
    #[error("it is a pipe")]
    Pipe,
    /// A sparse file, in any of tar's ways.
    #[error("it is a sparse file")]
    Sparse,
    /// Any other kind of entry.
    #[error("it is of the unknown kind {0:?}")]
    Kind(char),
    /// A hard link to anything but a file unpacked before.
    #[error("it is a hard link to something that is not a file of this archive")]
    HardLink,
    /// Bytes after a header that has none.
    #[error("it has content, which its kind has not")]
    Content,
    /// A header field that means nothing.
    #[error("its header cannot be read")]
    Header,
    /// Its place is taken, or what should be a folder is none.
    #[error("something else is in its place or in its way")]
    Taken,
}

/// An entry that was found to be acceptable.
#[derive(Debug)]
pub struct Judged<'n> {
    /// The names of its path, one at least.
    pub names: Vec<&'n [u8]>,
    /// What it is.
    pub kind: Kind,
    /// Permissions, as the header says.
    pub mode: u32,
    /// When it was modified, in seconds since 1970.
    pub mtime: u64,
}

/// What an entry is.
#[derive(Debug)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A regular file.
    File,
    /// A symbolic link whose target does not leave the folder by its text.
    Symlink {
        /// As it stands in the archive.
        target: Vec<u8>,
    },
    /// Another name for a file.
    HardLink {
        /// A path that [`names`] accepts.
        target: Vec<u8>,
    },
}

/// What `entry`, whose path is `name`, is; nothing for what makes nothing: a
/// global header, or the top folder itself.
///
/// # Errors
/// [`Refusal`].
pub fn judge<'n>(
    entry: &mut Entry<'_, impl Read>,
    name: &'n [u8],
) -> Result<Option<Judged<'n>>, Refusal> {
    let entry_type = entry.header().entry_type();
    if entry_type == EntryType::XGlobalHeader {
        return Ok(None);
    }
    check_extensions(entry)?;
    if entry_type != EntryType::Regular && entry.size() != 0 {
        return Err(unsupported(entry_type).unwrap_or(Refusal::Content));
    }
    let mode = entry.header().mode().map_err(|_| Refusal::Header)?;
    let mtime = entry.header().mtime().map_err(|_| Refusal::Header)?;
    let names = names(name)?;
    let Some(depth) = names.len().checked_sub(1) else {
        let top = entry_type == EntryType::Directory;
        return if top { Ok(None) } else { Err(LayoutFault::Empty.into()) };
    };
    let target = || entry.link_name_bytes().unwrap_or_default().into_owned();
    let kind = match entry_type {
        EntryType::Directory => Kind::Folder,
        EntryType::Regular if name.ends_with(b"/") => return Err(Refusal::Header),
        EntryType::Regular => Kind::File,
        EntryType::Symlink => {
            let target = target();
            check_link(depth, &target)?;
            Kind::Symlink { target }
        }
        EntryType::Link => {
            let target = target();
            super::names(&target).map_err(|_| Refusal::HardLink)?;
            Kind::HardLink { target }
        }
        other => return Err(unsupported(other).unwrap_or(Refusal::Header)),
    };
    Ok(Some(Judged { names, kind, mode, mtime }))
}

/// A name for a message: quoted, control characters escaped, cut.
pub fn shown(name: &[u8]) -> String {
    let cut = &name[..name.len().min(SHOWN)];
    let more = if cut.len() < name.len() { "…" } else { "" };
    format!("{:?}{more}", String::from_utf8_lossy(cut))
}

/// Extended headers that cannot be read in full, or that make a file sparse
/// behind the header's back.
fn check_extensions(entry: &mut Entry<'_, impl Read>) -> Result<(), Refusal> {
    let Some(extensions) = entry.pax_extensions().map_err(|_| Refusal::Header)? else {
        return Ok(());
    };
    for extension in extensions {
        let extension = extension.map_err(|_| Refusal::Header)?;
        if extension.key_bytes().starts_with(b"GNU.sparse.") {
            return Err(Refusal::Sparse);
        }
    }
    Ok(())
}

fn unsupported(entry_type: EntryType) -> Option<Refusal> {
    match entry_type {
        EntryType::Regular | EntryType::Directory | EntryType::Symlink | EntryType::Link => None,
        EntryType::Char | EntryType::Block => Some(Refusal::Device),
        EntryType::Fifo => Some(Refusal::Pipe),
        EntryType::GNUSparse => Some(Refusal::Sparse),
        other => Some(Refusal::Kind(char::from(other.as_byte()))),
    }
}
