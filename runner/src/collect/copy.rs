//! Copies what was found into another folder: never by hard links, so that nobody who
//! changes the one changes the other.

use std::{
    ffi::OsStr,
    fs::{File, FileTimes},
    io,
    os::{
        fd::OwnedFd,
        unix::{
            ffi::OsStrExt as _,
            fs::{MetadataExt as _, PermissionsExt as _},
        },
    },
    path::Path,
};

use baton_client::{
    source::layout::{self, entry::Refusal},
    tree::{Creation, CreationFault},
};
use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
};

use super::{Choice, Limits, Picked, PickedKind, open_folder, pick};

/// Why something could not be copied.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CopyError {
    /// It must not be where it should go; most often something else is there.
    #[error("{path}: {refusal}")]
    Refused { path: String, refusal: Refusal },
    /// This host failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl CopyError {
    fn of(path: &[u8], fault: CreationFault) -> Self {
        match fault {
            CreationFault::Refused(refusal) => {
                Self::Refused { path: String::from_utf8_lossy(path).into_owned(), refusal }
            }
            fault => Self::Io(failed(fault)),
        }
    }
}

impl From<CopyError> for io::Error {
    fn from(error: CopyError) -> Self {
        match error {
            CopyError::Io(error) => error,
            refused @ CopyError::Refused { .. } => Self::other(refused),
        }
    }
}

/// Opens a regular file below `top`, without any link on the way.
pub(crate) fn open_file(top: &OwnedFd, path: &Path) -> io::Result<File> {
    let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let inside = ResolveFlag::RESOLVE_BENEATH
        | ResolveFlag::RESOLVE_NO_SYMLINKS
        | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    let how = OpenHow::new().flags(flags).resolve(inside);
    loop {
        match openat2(top, path, how) {
            // Something on the way was renamed at that moment.
            Err(Errno::EAGAIN) => {}
            Err(error) => return Err(error.into()),
            Ok(file) => {
                let file = File::from(file);
                if file.metadata()?.is_file() {
                    return Ok(file);
                }
                return Err(io::Error::new(io::ErrorKind::InvalidData, "not a regular file"));
            }
        }
    }
}

/// Copies `picked` from below `from` to below `to`, where none of it may be; how many bytes
/// of files that were.
pub(crate) fn copy(
    from: &OwnedFd,
    picked: &[Picked],
    to: &mut Creation,
    stopped: &dyn Fn() -> bool,
) -> Result<u64, CopyError> {
    let mut bytes = 0;
    for Picked { path, kind } in picked {
        if stopped() {
            return Err(io::Error::other("copying was stopped").into());
        }
        let refused = |fault| CopyError::of(path, fault);
        let names = layout::names(path).map_err(io::Error::other)?;
        let Some((name, folders)) = names.split_last() else { continue };
        match kind {
            PickedKind::Folder => to.enter(&names).map_err(refused)?,
            PickedKind::Link(target) => to.symlink(folders, name, target, None).map_err(refused)?,
            PickedKind::Special => {}
            PickedKind::File(found) => {
                let mut source = open_file(from, Path::new(OsStr::from_bytes(path)))?;
                let mut copy = to.create(folders, name).map_err(refused)?;
                // The kernel copies, and shares the blocks where the file system can.
                bytes += io::copy(&mut source, &mut copy)?;
                copy.set_times(FileTimes::new().set_modified(found.modified()?))?;
                let mode = found.mode() & 0o777 | 0o600;
                copy.set_permissions(std::fs::Permissions::from_mode(mode))?;
            }
        }
    }
    Ok(bytes)
}

/// Copies all that is in the folder `from` to `path` below `to`, where none of it may be.
pub(crate) fn put(
    from: &Path,
    to: &OwnedFd,
    path: &str,
    stopped: &dyn Fn() -> bool,
) -> Result<(), CopyError> {
    let limits = Limits { bytes: u64::MAX, files: u64::MAX };
    let all = Choice::of_globs(&["**".to_owned()]).map_err(io::Error::other)?;
    let from = open_folder(from)?;
    let picked = pick(&from, &all, limits, stopped).map_err(io::Error::other)?;
    let names: Vec<_> = path.as_bytes().split(|byte| *byte == b'/').collect();
    let names = if path.is_empty() { &[][..] } else { &names };
    let below = Creation::within(to.try_clone()?, u64::MAX).below(names);
    let mut below = below.map_err(|fault| CopyError::of(path.as_bytes(), fault))?;
    copy(&from, &picked, &mut below, stopped).map(drop)
}

/// Why something could not be made in a folder.
pub(crate) fn failed(fault: CreationFault) -> io::Error {
    match fault {
        CreationFault::Local(error) => error,
        CreationFault::Refused(refusal) => io::Error::other(refusal),
        CreationFault::Full => io::Error::other("there are more files than there may be"),
    }
}
