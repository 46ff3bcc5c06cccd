//! The file system below one folder, reached one name at a time.
//!
//! Every folder on the way is opened by a single name from its parent's handle
//! and never through a link, and everything is created anew, never replaced. So
//! no name and no order of entries can make anything happen outside. Nothing
//! in here may take a path, save for the top folder's own.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, AtFlags, OFlag, OpenHow, RenameFlags, ResolveFlag, openat, openat2, renameat2,
};
use nix::sys::stat::{
    FileStat, Mode, SFlag, UtimensatFlags, fchmod, fstatat, futimens, mkdirat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{UnlinkatFlags, linkat, symlinkat, unlinkat};

use crate::source::layout::entry::Refusal;
use crate::source::layout::{self, LayoutFault};

/// No group and no stranger writes, and no set-user-id, set-group-id or sticky
/// bit comes from elsewhere.
pub(crate) const MODE_KEPT: u32 = 0o755;
/// The year 9999: what file systems and tools still understand.
const MTIME_MAX: u64 = 253_402_300_799;

/// How often the kernel may say that a link leads over too many others before it is believed.
const CHAINS_DOUBTED: u32 = 8;

struct Folder {
    name: Vec<u8>,
    handle: OwnedFd,
    mtime: Option<u64>,
}

/// Why something was not created.
#[derive(Debug)]
pub enum CreationFault {
    /// It must not be.
    Refused(Refusal),
    /// There are as many things as there may be.
    Full,
    /// This machine failed.
    Local(io::Error),
}

impl From<Refusal> for CreationFault {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl From<LayoutFault> for CreationFault {
    fn from(fault: LayoutFault) -> Self {
        Self::Refused(fault.into())
    }
}

impl From<io::Error> for CreationFault {
    fn from(err: io::Error) -> Self {
        Self::Local(err)
    }
}

/// A top folder, and the folders below it that lead to the last entry.
pub struct Creation {
    top: OwnedFd,
    open: Vec<Folder>,
    /// Links that go up again behind a name, which may be another link's.
    winding: Vec<Vec<u8>>,
    created: u64,
    limit: u64,
}

impl Creation {
    /// Opens the empty folder `dest`; at most `limit` things are created in it.
    ///
    /// # Errors
    /// It is not there, no folder, or not empty.
    pub fn open(dest: &Path, limit: u64) -> io::Result<Self> {
        if std::fs::read_dir(dest)?.next().is_some() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let top = openat(AT_FDCWD, dest, flags, Mode::empty())?;
        Ok(Self { top, open: Vec::new(), winding: Vec::new(), created: 0, limit })
    }

    /// Begins below the open folder `top`, where there may be something already.
    #[must_use]
    pub fn within(top: OwnedFd, limit: u64) -> Self {
        Self { top, open: Vec::new(), winding: Vec::new(), created: 0, limit }
    }

    /// Another one below the folder of these names, which is made where it is not there yet.
    ///
    /// # Errors
    /// [`CreationFault`].
    pub fn below(&mut self, names: &[&[u8]]) -> Result<Self, CreationFault> {
        self.enter(names)?;
        let top = self.here().try_clone_to_owned()?;
        Ok(Self::within(top, self.limit))
    }

    /// A folder, made where it is not there yet.
    ///
    /// # Errors
    /// [`CreationFault`].
    pub fn folder(
        &mut self,
        names: &[&[u8]],
        mode: u32,
        mtime: Option<u64>,
    ) -> Result<(), CreationFault> {
        self.enter(names)?;
        if let Some(folder) = self.open.last_mut() {
            fchmod(&folder.handle, kept(mode | 0o700)).map_err(io::Error::from)?;
            folder.mtime = mtime;
        }
        Ok(())
    }

    /// A new file, open for writing; nobody else may read it before
    /// [`seal`].
    ///
    /// # Errors
    /// [`CreationFault`].
    pub fn create(&mut self, folders: &[&[u8]], name: &[u8]) -> Result<File, CreationFault> {
        self.enter(folders)?;
        self.count()?;
        let flags =
            OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let file =
            openat(self.here(), name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map_err(taken)?;
        Ok(file.into())
    }

    /// A new file that gets its name later, in the place of one that was never named.
    ///
    /// # Errors
    /// [`CreationFault`].
    pub fn draft(&mut self, folders: &[&[u8]], draft: &[u8]) -> Result<File, CreationFault> {
        self.enter(folders)?;
        match unlinkat(self.here(), draft, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => self.create(folders, draft),
            Err(err) => Err(taken(err)),
        }
    }

    /// Gives the draft in the current folder its name, if that is free.
    ///
    /// # Errors
    /// [`CreationFault`]. The draft is gone.
    pub fn name_draft(&mut self, draft: &[u8], name: &[u8]) -> Result<(), CreationFault> {
        let here = self.here();
        let named = match renameat2(here, draft, here, name, RenameFlags::RENAME_NOREPLACE) {
            // Not every file system knows this, NFS for one.
            Err(Errno::EINVAL | Errno::ENOSYS) => rename_by_link(here, draft, name),
            named => named,
        };
        named.map_err(|err| {
            self.drop_draft(draft);
            taken(err)
        })
    }

    /// Removes the draft in the current folder, which is of no use any more.
    pub fn drop_draft(&self, draft: &[u8]) {
        // Whatever stays, it was already clear that something failed.
        let _ = unlinkat(self.here(), draft, UnlinkatFlags::NoRemoveDir);
    }

    /// A symbolic link.
    ///
    /// # Errors
    /// [`CreationFault`].
    pub fn symlink(
        &mut self,
        folders: &[&[u8]],
        name: &[u8],
        target: &[u8],
        mtime: Option<u64>,
    ) -> Result<(), CreationFault> {
        self.enter(folders)?;
        self.count()?;
        symlinkat(target, self.here(), name).map_err(taken)?;
        if let Some(mtime) = mtime {
            let (access, change) = (TimeSpec::UTIME_OMIT, timestamp(mtime));
            let itself = UtimensatFlags::NoFollowSymlink;
            utimensat(self.here(), name, &access, &change, itself).map_err(io::Error::from)?;
        }
        if layout::winds(target) {
            self.winding.push([folders, &[name]].concat().join(&b'/'));
        }
        Ok(())
    }

    /// Another name for a regular file that is there already.
    ///
    /// # Errors
    /// [`CreationFault`].
    pub fn hard_link(
        &mut self,
        folders: &[&[u8]],
        name: &[u8],
        target: &[&[u8]],
    ) -> Result<(), CreationFault> {
        let (target_name, target_folders) = target.split_last().ok_or(Refusal::HardLink)?;
        let target_folder = self.find(target_folders)?;
        let found = fstatat(&target_folder, *target_name, AtFlags::AT_SYMLINK_NOFOLLOW)
            .map_err(not_there)?;
        if !is_regular(&found) {
            return Err(Refusal::HardLink.into());
        }
        self.enter(folders)?;
        self.count()?;
        linkat(&target_folder, *target_name, self.here(), name, AtFlags::empty()).map_err(taken)?;
        Ok(())
    }

    /// Sets the times of the folders still open. Only now it shows whether a link
    /// leaves the top folder by way of another one.
    ///
    /// # Errors
    /// [`CreationFault`], and the path of what it is about.
    pub fn close(mut self) -> Result<(), (CreationFault, Vec<u8>)> {
        self.leave(0).map_err(|fault| (fault, b".".to_vec()))?;
        for link in &self.winding {
            if let Some(fault) = strays(&self.top, link) {
                return Err((fault.into(), link.clone()));
            }
        }
        Ok(())
    }

    fn here(&self) -> BorrowedFd<'_> {
        self.open.last().map_or(self.top.as_fd(), |folder| folder.handle.as_fd())
    }

    /// Makes the folder of these names the current one.
    ///
    /// # Errors
    /// [`CreationFault`].
    pub fn enter(&mut self, names: &[&[u8]]) -> Result<(), CreationFault> {
        let common =
            self.open.iter().zip(names).take_while(|(folder, name)| folder.name == **name).count();
        self.leave(common)?;
        for name in &names[common..] {
            match mkdirat(self.here(), *name, kept(MODE_KEPT)) {
                Ok(()) => self.count()?,
                Err(Errno::EEXIST) => {}
                Err(err) => return Err(taken(err)),
            }
            let handle = open_folder(self.here(), name).map_err(taken)?;
            self.open.push(Folder { name: name.to_vec(), handle, mtime: None });
        }
        Ok(())
    }

    fn leave(&mut self, depth: usize) -> Result<(), CreationFault> {
        while self.open.len() > depth {
            if let Some(Folder { handle, mtime: Some(mtime), .. }) = self.open.pop() {
                futimens(&handle, &TimeSpec::UTIME_OMIT, &timestamp(mtime))
                    .map_err(io::Error::from)?;
            }
        }
        Ok(())
    }

    fn find(&self, names: &[&[u8]]) -> Result<OwnedFd, CreationFault> {
        let mut handle = self.top.try_clone()?;
        for name in names {
            handle = open_folder(handle.as_fd(), name).map_err(not_there)?;
        }
        Ok(handle)
    }

    fn count(&mut self) -> Result<(), CreationFault> {
        self.created += 1;
        if self.created > self.limit { Err(CreationFault::Full) } else { Ok(()) }
    }
}

/// Gives a file that has all its content its mode and time.
///
/// # Errors
/// What the system said.
pub fn seal(file: &File, mode: u32, mtime: Option<u64>) -> io::Result<()> {
    fchmod(file, kept(mode | 0o600))?;
    if let Some(mtime) = mtime {
        futimens(file, &TimeSpec::UTIME_OMIT, &timestamp(mtime))?;
    }
    Ok(())
}

/// Whether the link at the path `link` in the folder `top` leads out of it, or it cannot be
/// known: as it is there, by way of whatever other links there are.
pub fn strays(top: impl AsFd, link: &[u8]) -> Option<LayoutFault> {
    let beneath = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH);
    let mut chains = 0;
    loop {
        match openat2(&top, link, beneath) {
            // Somebody renames something on this host, and the kernel is not sure.
            Err(Errno::EAGAIN) => {}
            // When it begins again for such a reason, it counts the links again as well.
            Err(Errno::ELOOP) if chains < CHAINS_DOUBTED => chains += 1,
            Err(Errno::ELOOP) => return Some(LayoutFault::LinkChain),
            Err(Errno::EXDEV) => return Some(LayoutFault::LinkLeaves),
            // One that leads nowhere leads to nothing outside.
            Ok(_) | Err(_) => return None,
        }
    }
}

fn open_folder(parent: BorrowedFd<'_>, name: &[u8]) -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

/// Renames a file, if the other name is free, in two steps.
fn rename_by_link(folder: BorrowedFd<'_>, from: &[u8], to: &[u8]) -> nix::Result<()> {
    linkat(folder, from, folder, to, AtFlags::empty())?;
    unlinkat(folder, from, UnlinkatFlags::NoRemoveDir)
}

fn is_regular(stat: &FileStat) -> bool {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG
}

fn kept(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode & MODE_KEPT)
}

fn timestamp(mtime: u64) -> TimeSpec {
    TimeSpec::new(mtime.min(MTIME_MAX) as i64, 0)
}

/// The folder was empty and is ours alone, so whatever is in the way came out
/// of the archive.
fn taken(err: Errno) -> CreationFault {
    match err {
        Errno::EEXIST | Errno::ENOTDIR | Errno::ELOOP | Errno::EMLINK => Refusal::Taken.into(),
        other => CreationFault::Local(other.into()),
    }
}

fn not_there(err: Errno) -> CreationFault {
    match err {
        Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP => Refusal::HardLink.into(),
        other => CreationFault::Local(other.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_can_be_renamed_in_two_steps_where_one_is_not_to_be_had() {
        let dir = tempfile::tempdir().unwrap();
        let folder = File::open(dir.path()).unwrap();
        std::fs::write(dir.path().join("draft"), "text").unwrap();
        rename_by_link(folder.as_fd(), b"draft", b"name").unwrap();
        assert_eq!(std::fs::read_to_string(dir.path().join("name")).unwrap(), "text");
        assert!(!dir.path().join("draft").exists());
        std::fs::write(dir.path().join("draft"), "other").unwrap();
        let taken = rename_by_link(folder.as_fd(), b"draft", b"name");
        assert_eq!(taken, Err(Errno::EEXIST));
        assert_eq!(std::fs::read_to_string(dir.path().join("name")).unwrap(), "text");
    }
}
