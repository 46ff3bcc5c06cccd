//! Removes a tree whose shape a job chose: any depth, any names, folders without
//! permissions. No path is longer than one name, so that none is too long and no
//! link is followed, and few folders are open at once: what lies deeper is first
//! moved up to the top.

use std::{
    ffi::{CStr, CString},
    fs::{self, Permissions},
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::Path,
};

use nix::{
    NixPath,
    dir::{Dir, OwningIter},
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, openat, renameat},
    sys::stat::Mode,
    unistd::{UnlinkatFlags, unlinkat},
};

/// How many folders are open one below the other.
const DEPTH: usize = 16;

/// Removes the folder at `path` and all that is below it. What cannot be removed
/// does not keep the rest.
///
/// # Errors
/// The first thing that could not be removed.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let top = open(AT_FDCWD, path)?;
    let mut emptying = Emptying { top: &top, moved: 0, failed: None };
    loop {
        let before = emptying.moved;
        emptying.pass()?;
        // What was moved to the top may have been behind what was listed of it.
        if emptying.moved == before {
            break;
        }
    }
    match emptying.failed {
        Some(error) => Err(error.into()),
        None => fs::remove_dir(path),
    }
}

struct Emptying<'a> {
    top: &'a OwnedFd,
    /// Folders moved to the top so far.
    moved: u64,
    failed: Option<Errno>,
}

/// A folder on the way down.
struct Level {
    folder: OwnedFd,
    names: OwningIter,
    /// Its name in the folder above.
    name: CString,
}

impl Emptying<'_> {
    /// Goes through the tree once, and leaves what it moved to the top.
    fn pass(&mut self) -> io::Result<()> {
        let top = self.top.try_clone()?;
        let mut levels = vec![Level { names: names(&top)?, folder: top, name: CString::default() }];
        loop {
            let depth = levels.len();
            let Some(level) = levels.last_mut() else { return Ok(()) };
            match level.names.next() {
                Some(Ok(entry)) => {
                    let name = entry.file_name();
                    if name == c"." || name == c".." {
                        continue;
                    }
                    let folder = level.folder.as_fd();
                    match unlinkat(folder, name, UnlinkatFlags::NoRemoveDir) {
                        Err(Errno::EISDIR) => {
                            let below = self.enter(folder, name, depth);
                            levels.extend(self.note(below).flatten());
                        }
                        removed => self.note_removed(removed),
                    }
                }
                Some(Err(error)) => {
                    self.failed.get_or_insert(error);
                    self.leave(&mut levels);
                }
                None => self.leave(&mut levels),
            }
        }
    }

    /// Opens a folder to empty it; one that is too deep is moved to the top instead.
    fn enter(
        &mut self,
        parent: BorrowedFd<'_>,
        name: &CStr,
        depth: usize,
    ) -> nix::Result<Option<Level>> {
        let folder = open(parent, name)?;
        if depth == DEPTH {
            self.move_up(parent, name)?;
            return Ok(None);
        }
        Ok(Some(Level { names: names(&folder)?, folder, name: name.to_owned() }))
    }

    fn move_up(&mut self, parent: BorrowedFd<'_>, name: &CStr) -> nix::Result<()> {
        loop {
            self.moved += 1;
            match renameat(parent, name, self.top, self.moved.to_string().as_str()) {
                // The job has something of that name there.
                Err(Errno::ENOTEMPTY | Errno::EEXIST | Errno::ENOTDIR) => {}
                renamed => return renamed,
            }
        }
    }

    /// Removes the last folder, which was emptied.
    fn leave(&mut self, levels: &mut Vec<Level>) {
        let left = levels.pop();
        if let (Some(left), Some(parent)) = (left, levels.last()) {
            let removed = unlinkat(&parent.folder, left.name.as_c_str(), UnlinkatFlags::RemoveDir);
            self.note_removed(removed);
        }
    }

    fn note_removed(&mut self, removed: nix::Result<()>) {
        // Somebody else may have removed it.
        if removed != Err(Errno::ENOENT) {
            self.note(removed);
        }
    }

    fn note<T>(&mut self, result: nix::Result<T>) -> Option<T> {
        result.map_err(|error| self.failed.get_or_insert(error)).ok()
    }
}

/// Opens a folder, no link, and takes full access to it.
fn open<P: NixPath + ?Sized>(parent: impl AsFd, name: &P) -> nix::Result<OwnedFd> {
    let parent = parent.as_fd();
    let flags = OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let folder = match openat(parent, name, flags, Mode::empty()) {
        Err(Errno::EACCES) => {
            set_access(&openat(parent, name, flags | OFlag::O_PATH, Mode::empty())?)?;
            openat(parent, name, flags, Mode::empty())?
        }
        opened => opened?,
    };
    // Such as the folders of a Go module cache, which nobody may write to.
    set_access(&folder)?;
    Ok(folder)
}

fn set_access(folder: &OwnedFd) -> nix::Result<()> {
    // By this path, also for a descriptor that is only a place.
    let path = format!("/proc/self/fd/{}", folder.as_raw_fd());
    fs::set_permissions(path, Permissions::from_mode(0o700))
        .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or_default()))
}

fn names(folder: &OwnedFd) -> nix::Result<OwningIter> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    Ok(Dir::openat(folder, c".", flags, Mode::empty())?.into_iter())
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "one test needs a process of its own, one a mount")]
mod tests {
    use std::{env, os::unix::fs::symlink, path::PathBuf, process::Command};

    use nix::unistd::{Uid, setfsuid};

    use super::*;

    /// `count` folders, one in the other, each with a file. It grows at its top,
    /// where paths are short.
    fn nested(root: &Path, count: usize) -> PathBuf {
        let (tree, wrapper) = (root.join("tree"), root.join("wrapper"));
        fs::create_dir(&tree).unwrap();
        for _ in 1..count {
            fs::create_dir(&wrapper).unwrap();
            fs::write(wrapper.join("1"), "").unwrap();
            fs::rename(&tree, wrapper.join("folder")).unwrap();
            fs::rename(&wrapper, &tree).unwrap();
        }
        tree
    }

    /// In a process of its own, which cannot open many files.
    #[test]
    fn a_tree_deeper_than_any_path_is_removed_with_few_open_folders() {
        const TREE: &str = "BATON_TEST_TREE";
        if let Some(tree) = env::var_os(TREE) {
            return super::remove(Path::new(&tree)).unwrap();
        }
        let root = tempfile::tempdir().unwrap();
        let tree = nested(root.path(), 5_000);
        let name = "a_tree_deeper_than_any_path_is_removed_with_few_open_folders";
        let removed = Command::new("sh")
            .args(["-c", "ulimit -n 64; exec \"$0\" \"$1\""])
            .arg(env::current_exe().unwrap())
            .arg(name)
            .env(TREE, &tree)
            .output()
            .unwrap();
        assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stdout));
        assert!(!tree.exists());
    }

    #[test]
    fn a_wide_tree_with_names_as_the_remover_gives_them_is_removed() {
        let root = tempfile::tempdir().unwrap();
        let tree = nested(root.path(), 3 * DEPTH);
        for number in 0..20 {
            fs::create_dir_all(tree.join(format!("{}/full", number + 2))).unwrap();
        }
        let deep = tree.join("folder/".repeat(2 * DEPTH));
        for number in 0..50 {
            fs::create_dir_all(deep.join(format!("wide-{number}/a/b/c"))).unwrap();
        }
        super::remove(&tree).unwrap();
        assert!(!tree.exists());
    }

    #[test]
    fn links_are_removed_and_not_followed() {
        let root = tempfile::tempdir().unwrap();
        let kept = root.path().join("kept/file");
        fs::create_dir(kept.parent().unwrap()).unwrap();
        fs::write(&kept, "").unwrap();
        let tree = nested(root.path(), 2 * DEPTH);
        for depth in [0, DEPTH - 1, DEPTH, DEPTH + 1] {
            let link = tree.join("folder/".repeat(depth)).join("link");
            symlink(kept.parent().unwrap(), link).unwrap();
        }
        super::remove(&tree).unwrap();
        assert!(!tree.exists() && kept.exists());
        symlink(kept.parent().unwrap(), &tree).unwrap();
        super::remove(&tree).unwrap_err();
        assert!(kept.exists());
    }

    #[test]
    fn folders_without_any_permission_are_removed_by_their_owner() {
        let root = tempfile::tempdir().unwrap();
        fs::set_permissions(root.path(), Permissions::from_mode(0o777)).unwrap();
        let remove_as_somebody = || {
            // Of this thread alone; root would need no permission.
            setfsuid(Uid::from_raw(65_534));
            let tree = nested(root.path(), 2 * DEPTH);
            for depth in (0..2 * DEPTH).rev() {
                let folder = tree.join("folder/".repeat(depth));
                let mode = if depth % 2 == 0 { 0o000 } else { 0o555 };
                fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
            }
            super::remove(&tree).unwrap();
            assert!(!tree.exists());
        };
        std::thread::scope(|scope| scope.spawn(remove_as_somebody).join()).unwrap();
    }

    #[test]
    fn what_cannot_be_removed_does_not_keep_the_rest() {
        let root = tempfile::tempdir().unwrap();
        let tree = nested(root.path(), 2 * DEPTH);
        let mount = tree.join("folder/mount");
        fs::create_dir(&mount).unwrap();
        let on = |program: &str, args: &[&str]| {
            Command::new(program).args(args).arg(&mount).status().unwrap().success()
        };
        if !on("mount", &["-t", "tmpfs", "tmpfs"]) {
            return;
        }
        super::remove(&tree).unwrap_err();
        assert!(mount.exists() && !tree.join("folder/folder").exists());
        assert!(on("umount", &[]));
        super::remove(&tree).unwrap();
        assert!(!tree.exists());
    }
}
