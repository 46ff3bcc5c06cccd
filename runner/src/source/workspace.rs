//! Folders that are already where jobs run, below one that the runner's operator chose. A
//! job works in the folder itself.
//!
//! A path is resolved by the kernel, in one step and below the base: whatever links
//! somebody puts on the way meanwhile, what was opened lies inside. So nothing in here
//! gives a path away as a place to go to, only open folders.

use std::{
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use baton_proto::source::workspace_path;
use nix::{
    errno::Errno,
    fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat, openat2},
    sys::stat::Mode,
};
use serde::{Deserialize, Serialize};

/// A workspace, which may not be there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Workspace {
    base: PathBuf,
    path: PathBuf,
}

/// Why a job cannot have its workspace.
#[derive(Debug, thiserror::Error)]
pub enum WorkspaceError {
    /// The runner's operator keeps none.
    #[error("this runner keeps no workspaces; set `workspaces` in its runner.toml to a folder")]
    NoBase,
    /// None on that target.
    #[error(
        "this runner knows no workspaces on the target {target}; set `workspaces` in its \
         runner.toml, in [ssh.targets.{target}], to a folder there"
    )]
    NoBaseThere {
        /// The target's name.
        target: String,
    },
    /// Containers must not have the folder of workspaces.
    #[error(
        "workspaces are not for containers on this runner; add {} to docker.mounts in its \
         runner.toml",
        base.display()
    )]
    NotMounted {
        /// The folder of workspaces.
        base: PathBuf,
    },
    /// No path below a folder.
    #[error("the workspace's path {0}")]
    Refused(&'static str),
    /// It cannot be opened.
    #[error("the workspace {} of this runner cannot be opened: {reason}", path.display())]
    Open {
        /// Its path.
        path: PathBuf,
        /// Why not, and what to do.
        reason: &'static str,
    },
    /// This host failed.
    #[error("the workspace {} of this runner cannot be opened: {error}", path.display())]
    Failed {
        /// Its path.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

impl WorkspaceError {
    /// Another attempt would meet the same, unless it came to a runner that is set up
    /// otherwise.
    #[must_use]
    pub fn is_permanent(&self) -> bool {
        !matches!(self, Self::Failed { .. })
    }
}

impl Workspace {
    /// The workspace at `path`, which a caller chose, below `base` on this host. It is there
    /// at the moment.
    ///
    /// # Errors
    /// [`WorkspaceError`].
    pub fn find(base: Option<&Path>, path: &str) -> Result<Self, WorkspaceError> {
        workspace_path(path).map_err(WorkspaceError::Refused)?;
        let base = base.ok_or(WorkspaceError::NoBase)?;
        let workspace = Self { base: base.to_owned(), path: path.into() };
        match workspace.open() {
            Ok(_) => Ok(workspace),
            Err(error) => {
                let path = workspace.path();
                let reason = match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EXDEV | Errno::ELOOP) => {
                        "a link in it leads out of the `workspaces` folder"
                    }
                    Some(Errno::ENOENT) => "it is not there; make the folder first",
                    Some(Errno::ENOTDIR) => "it is no folder",
                    Some(Errno::EACCES) => "its permissions do not let the runner in",
                    _ => return Err(WorkspaceError::Failed { path, error }),
                };
                Err(WorkspaceError::Open { path, reason })
            }
        }
    }

    /// The one at `path`, which a caller chose, below `base` on another host.
    ///
    /// # Errors
    /// [`WorkspaceError::Refused`].
    pub fn elsewhere(base: &str, path: &str) -> Result<Self, WorkspaceError> {
        workspace_path(path).map_err(WorkspaceError::Refused)?;
        Ok(Self { base: base.into(), path: path.into() })
    }

    /// The folder that it is below.
    pub(crate) fn base(&self) -> &Path {
        &self.base
    }

    /// Its path from there: plain names, as long as nobody puts a link in their way.
    pub(crate) fn within(&self) -> &Path {
        &self.path
    }

    /// Opens the folder, on this host.
    pub(crate) fn open(&self) -> io::Result<OwnedFd> {
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let base = openat(AT_FDCWD, &self.base, flags, Mode::empty())?;
        let beneath = ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS;
        let how = OpenHow::new().flags(flags).resolve(beneath);
        loop {
            match openat2(&base, &self.path, how) {
                // Something on the way was renamed at that moment.
                Err(Errno::EAGAIN) => {}
                opened => return Ok(opened?),
            }
        }
    }

    /// Its path, for people.
    pub(crate) fn path(&self) -> PathBuf {
        self.base.join(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{MetadataExt as _, symlink},
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::*;

    fn told(base: &Path, path: &str) -> String {
        Workspace::find(Some(base), path).unwrap_err().to_string()
    }

    #[test]
    fn a_folder_below_the_base_is_found_also_by_a_link_that_stays_there() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("team/app")).unwrap();
        symlink("team/app", root.path().join("link")).unwrap();
        for path in ["team/app", "./team//app/", "link", "."] {
            let found = Workspace::find(Some(root.path()), path).unwrap();
            let opened = fs::File::from(found.open().unwrap());
            let there = fs::metadata(root.path().join(path)).unwrap();
            assert_eq!(opened.metadata().unwrap().ino(), there.ino(), "{path}");
        }
    }

    #[test]
    fn what_is_elsewhere_or_no_folder_is_refused_with_the_reason() {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join("base");
        fs::create_dir_all(base.join("app")).unwrap();
        fs::write(base.join("file"), "").unwrap();
        symlink("..", base.join("up")).unwrap();
        symlink("/", base.join("root")).unwrap();
        symlink("/proc/self/cwd", base.join("magic")).unwrap();
        symlink("loop", base.join("loop")).unwrap();
        for path in ["up", "up/base/app", "root", "root/tmp", "magic", "loop"] {
            assert!(told(&base, path).contains("leads out"), "{path}: {}", told(&base, path));
        }
        assert!(Workspace::find(Some(&base), "none").unwrap_err().is_permanent());
        assert!(told(&base, "none").contains("make the folder"));
        assert!(told(&base, "file").contains("no folder"));
        for path in ["../base/app", "/", "a/../app", ""] {
            let refused = Workspace::find(Some(&base), path).unwrap_err();
            assert!(refused.is_permanent(), "{path}: {refused}");
        }
        let none = Workspace::find(None, "app").unwrap_err();
        assert!(none.to_string().contains("set `workspaces`") && none.is_permanent());
    }

    #[test]
    fn no_exchange_of_a_folder_for_a_link_leads_out_while_it_is_opened() {
        let root = tempfile::tempdir().unwrap();
        let base = root.path().join("base");
        fs::create_dir_all(base.join("a/app")).unwrap();
        fs::create_dir_all(root.path().join("outside/app")).unwrap();
        symlink("../outside", base.join("b")).unwrap();
        let outside = fs::metadata(root.path().join("outside/app")).unwrap().ino();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (from, to) = (base.join("a"), base.join("b"));
                let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                while !done.load(Ordering::Relaxed) {
                    nix::fcntl::renameat2(AT_FDCWD, &from, AT_FDCWD, &to, exchange).unwrap();
                }
            });
            let workspace = Workspace { base: base.clone(), path: "a/app".into() };
            let mut opened = 0;
            for _ in 0..2_000 {
                if let Ok(folder) = workspace.open() {
                    opened += 1;
                    assert_ne!(fs::File::from(folder).metadata().unwrap().ino(), outside);
                }
            }
            done.store(true, Ordering::Relaxed);
            assert!(opened > 0);
        });
    }
}
