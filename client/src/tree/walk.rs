//! Which entries of a folder are brought, in which order, and as what.
//!
//! Reads names and metadata only, never a file's content.

use std::ffi::OsStr;
use std::fs::{FileType, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use ignore::{DirEntry, WalkBuilder};

use super::BuildError;
use crate::source::layout::{self, MAX_ENTRIES};

const OWN_IGNORE_FILE: &str = ".batonignore";

/// Something that was found in a folder.
#[derive(Debug)]
pub struct Found {
    /// Relative to the folder.
    pub path: PathBuf,
    /// What it is.
    pub kind: FoundKind,
}

/// What was found.
#[derive(Debug)]
pub enum FoundKind {
    /// A folder.
    Folder,
    /// A regular file.
    File {
        /// Whether somebody may execute it.
        executable: bool,
        /// By which it is known again.
        stamp: Stamp,
    },
    /// A symbolic link.
    Link {
        /// As it stands there.
        target: PathBuf,
    },
}

/// What tells a file from the one it was when it was listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    mtime: (i64, i64),
}

impl Stamp {
    /// What is known of a file.
    #[must_use]
    pub fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.len(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }

    /// Bytes.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }
}

/// All entries below `root`, a folder before what is in it, names in the order
/// of their bytes.
pub(super) fn walk(root: &Path, cancelled: &dyn Fn() -> bool) -> Result<Vec<Found>, BuildError> {
    std::fs::read_dir(root).map_err(|source| BuildError::Folder { path: root.into(), source })?;
    let walk = WalkBuilder::new(root)
        .standard_filters(false)
        .git_ignore(true)
        .git_exclude(true)
        .require_git(false)
        .add_custom_ignore_filename(OWN_IGNORE_FILE)
        .follow_links(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .sort_by_file_name(OsStr::cmp)
        .build();
    let mut entries = Vec::new();
    for found in walk {
        if cancelled() {
            return Err(BuildError::Cancelled);
        }
        let found = found.map_err(BuildError::Walk)?;
        check_patterns(&found)?;
        let path = found.path().strip_prefix(root).unwrap_or(found.path());
        if path.as_os_str().is_empty() {
            continue;
        }
        if entries.len() as u64 >= MAX_ENTRIES {
            return Err(BuildError::Entries);
        }
        entries.push(entry(&found, path)?);
    }
    Ok(entries)
}

fn entry(found: &DirEntry, path: &Path) -> Result<Found, BuildError> {
    let fault = |fault| BuildError::Layout { path: path.into(), fault };
    let names = layout::names(path.as_os_str().as_bytes()).map_err(fault)?;
    let metadata =
        std::fs::symlink_metadata(found.path()).map_err(|source| unreadable(path, source))?;
    let file_type = metadata.file_type();
    let kind = if file_type.is_dir() {
        FoundKind::Folder
    } else if file_type.is_file() {
        FoundKind::File { executable: metadata.mode() & 0o111 != 0, stamp: Stamp::of(&metadata) }
    } else if file_type.is_symlink() {
        let target = std::fs::read_link(found.path()).map_err(|source| unreadable(path, source))?;
        layout::check_link(names.len() - 1, target.as_os_str().as_bytes()).map_err(fault)?;
        FoundKind::Link { target }
    } else {
        return Err(BuildError::Special { path: path.into(), kind: special(file_type) });
    };
    Ok(Found { path: path.into(), kind })
}

pub(super) fn unreadable(path: &Path, source: io::Error) -> BuildError {
    if source.kind() == io::ErrorKind::NotFound {
        BuildError::Vanished { path: path.into() }
    } else {
        BuildError::Read { path: path.into(), source }
    }
}

fn special(file_type: FileType) -> &'static str {
    if file_type.is_socket() {
        "socket"
    } else if file_type.is_fifo() {
        "pipe"
    } else {
        "device"
    }
}

/// Git lives with a wrong pattern, so a `.gitignore` may have one; in our own
/// file it would mean sending what was to stay at home.
fn check_patterns(found: &DirEntry) -> Result<(), BuildError> {
    let Some(err) = found.error() else { return Ok(()) };
    if names_own_file(err) {
        return Err(BuildError::Pattern(err.clone()));
    }
    tracing::warn!(error = %err, "an ignore file was not understood in full");
    Ok(())
}

fn names_own_file(err: &ignore::Error) -> bool {
    match err {
        ignore::Error::Partial(errs) => errs.iter().any(names_own_file),
        ignore::Error::WithPath { path, .. } => path.ends_with(OWN_IGNORE_FILE),
        ignore::Error::WithLineNumber { err, .. } | ignore::Error::WithDepth { err, .. } => {
            names_own_file(err)
        }
        _ => false,
    }
}
