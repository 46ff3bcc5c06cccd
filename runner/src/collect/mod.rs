//! What a job leaves behind: which of its files, found and read with care. While that is
//! done something of a job may still be there and put links in the place of folders, so
//! nothing in here follows a path of more than one name unless the kernel keeps it below
//! the folder.

mod choice;
mod copy;
mod pick;
mod wanted;

pub use self::wanted::{Chosen, Leaves};
pub(crate) use self::{
    choice::Choice,
    copy::{CopyError, copy, failed, open_file, put},
    pick::{Limits, PickError, Picked, PickedKind, pick},
    wanted::{BROUGHT, Brought, OUTPUT_NAME, Part, left, left_folder},
};

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use nix::{
    fcntl::{AT_FDCWD, OFlag, openat},
    sys::stat::Mode,
};

/// Opens a folder, no link.
pub(crate) fn open_folder(path: &Path) -> io::Result<OwnedFd> {
    Ok(open_folder_at(AT_FDCWD, path)?)
}

fn open_folder_at<P: nix::NixPath + ?Sized>(parent: impl AsFd, name: &P) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}
