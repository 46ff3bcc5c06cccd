//! Finds what is chosen of a folder.

use std::{
    fs::{self, Metadata},
    io,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
};

use baton_client::source::layout;

use super::{Choice, choice::Verdict, open_folder_at};

/// How much there may be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Bytes of files.
    pub(crate) bytes: u64,
    /// Files and links.
    pub(crate) files: u64,
}

/// Why what is chosen cannot be had.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PickError {
    #[error("they have more than {0} bytes")]
    TooLarge(u64),
    #[error("there are more than {0} files")]
    TooMany(u64),
    #[error("{path:?}: {fault}")]
    Layout { path: String, fault: layout::LayoutFault },
    #[error("cannot read {path:?}: {source}")]
    Read { path: String, source: io::Error },
    #[error("reading them was stopped")]
    Stopped,
}

/// Something that was chosen.
#[derive(Debug)]
pub(crate) struct Picked {
    /// In the folder.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: PickedKind,
}

#[derive(Debug)]
pub(crate) enum PickedKind {
    Folder,
    File(Metadata),
    /// And where it leads.
    Link(Vec<u8>),
    /// Neither file, folder nor link: nothing is kept of it.
    Special,
}

/// What was found, each after the folder that it is in, and names in the order of their
/// bytes.
pub(crate) fn pick(
    top: &OwnedFd,
    choice: &Choice,
    limits: Limits,
    stopped: &dyn Fn() -> bool,
) -> Result<Vec<Picked>, PickError> {
    let mut picking = Picking { choice, limits, stopped, picked: Vec::new(), bytes: 0, files: 0 };
    picking.folder(top, &[], false, 0)?;
    Ok(picking.picked)
}

struct Picking<'a> {
    choice: &'a Choice,
    limits: Limits,
    stopped: &'a dyn Fn() -> bool,
    picked: Vec<Picked>,
    bytes: u64,
    files: u64,
}

impl Picking<'_> {
    fn folder(
        &mut self,
        folder: &OwnedFd,
        path: &[u8],
        taken: bool,
        depth: usize,
    ) -> Result<(), PickError> {
        let unreadable = |source| read_error(path, source);
        // By this path it is the folder that is open.
        let listed = fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd()));
        let listed: io::Result<Vec<_>> = listed.map_err(unreadable)?.collect();
        let mut listed = listed.map_err(unreadable)?;
        listed.sort_by_key(fs::DirEntry::file_name);
        for entry in listed {
            if (self.stopped)() {
                return Err(PickError::Stopped);
            }
            let name = entry.file_name();
            let separator: &[u8] = if path.is_empty() { b"" } else { b"/" };
            let path = [path, separator, name.as_bytes()].concat();
            let verdict = if taken { Verdict::Taken } else { self.choice.judge(&path) };
            if verdict == Verdict::Left {
                continue;
            }
            let taken = verdict == Verdict::Taken;
            // Of the entry itself, also when it is a link.
            let metadata = match entry.metadata() {
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                found => found.map_err(|source| read_error(&path, source))?,
            };
            if metadata.is_dir() {
                let below = match open_folder_at(folder, name.as_os_str()) {
                    Ok(below) => below,
                    // What may be there in its place was not chosen.
                    Err(_) if !taken => continue,
                    Err(error) => return Err(read_error(&path, error.into())),
                };
                if depth + 1 >= layout::MAX_DEPTH {
                    if !taken {
                        continue;
                    }
                    let fault = layout::LayoutFault::TooDeep;
                    return Err(PickError::Layout { path: shown(&path), fault });
                }
                if taken {
                    self.take(&path, PickedKind::Folder)?;
                }
                self.folder(&below, &path, taken, depth + 1)?;
            } else if taken && metadata.is_file() {
                self.bytes = self.bytes.saturating_add(metadata.len());
                self.take(&path, PickedKind::File(metadata))?;
            } else if taken && metadata.is_symlink() {
                let target = nix::fcntl::readlinkat(folder, name.as_os_str())
                    .map_err(|error| read_error(&path, error.into()))?;
                self.take(&path, PickedKind::Link(target.into_vec()))?;
            } else if taken {
                self.take(&path, PickedKind::Special)?;
            }
        }
        Ok(())
    }

    fn take(&mut self, path: &[u8], kind: PickedKind) -> Result<(), PickError> {
        layout::names(path).map_err(|fault| PickError::Layout { path: shown(path), fault })?;
        self.files += 1;
        if self.bytes > self.limits.bytes {
            return Err(PickError::TooLarge(self.limits.bytes));
        }
        if self.files > self.limits.files {
            return Err(PickError::TooMany(self.limits.files));
        }
        self.picked.push(Picked { path: path.to_vec(), kind });
        Ok(())
    }
}

fn read_error(path: &[u8], source: io::Error) -> PickError {
    PickError::Read { path: shown(path), source }
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::fs::symlink,
        path::Path,
        sync::atomic::{AtomicBool, Ordering},
    };

    use super::{super::open_folder, *};

    const LIMITS: Limits = Limits { bytes: 1000, files: 100 };

    fn picked(root: &Path, patterns: &[&str]) -> Result<Vec<String>, PickError> {
        let patterns: Vec<_> = patterns.iter().map(ToString::to_string).collect();
        let choice = Choice::of_globs(&patterns).unwrap();
        let picked = pick(&open_folder(root).unwrap(), &choice, LIMITS, &|| false)?;
        Ok(picked.iter().map(|it| String::from_utf8(it.path.clone()).unwrap()).collect())
    }

    #[test]
    fn what_is_chosen_is_found_in_order_and_nothing_behind_a_link() {
        let root = tempfile::tempdir().unwrap();
        let (work, outside) = (root.path().join("work"), root.path().join("outside"));
        fs::create_dir_all(work.join("a/b")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("secret.txt"), "x").unwrap();
        for file in ["a/2.txt", "a/b/1.txt", "a/b/1.bin", "z.txt"] {
            fs::write(work.join(file), "x").unwrap();
        }
        symlink(&outside, work.join("out")).unwrap();
        symlink("z.txt", work.join("a/link.txt")).unwrap();
        nix::unistd::mkfifo(&work.join("a/pipe.txt"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let found = picked(&work, &["**/*.txt"]).unwrap();
        assert_eq!(found, ["a/2.txt", "a/b/1.txt", "a/link.txt", "a/pipe.txt", "z.txt"]);
        assert_eq!(picked(&work, &["a/b"]).unwrap(), ["a/b", "a/b/1.bin", "a/b/1.txt"]);
        assert_eq!(picked(&work, &["out/*"]).unwrap(), [""; 0]);
        // The link itself may be meant.
        assert_eq!(picked(&work, &["out"]).unwrap(), ["out"]);
    }

    #[test]
    fn there_may_be_no_more_than_the_limits_say() {
        let root = tempfile::tempdir().unwrap();
        fs::File::create(root.path().join("large")).unwrap().set_len(1001).unwrap();
        assert!(matches!(picked(root.path(), &["*"]), Err(PickError::TooLarge(1000))));
        fs::remove_file(root.path().join("large")).unwrap();
        for number in 0..101 {
            fs::write(root.path().join(number.to_string()), "").unwrap();
        }
        assert!(matches!(picked(root.path(), &["*"]), Err(PickError::TooMany(100))));
        assert_eq!(picked(root.path(), &["1*"]).unwrap().len(), 12);
    }

    #[test]
    fn folders_that_become_links_meanwhile_lead_nowhere() {
        let root = tempfile::tempdir().unwrap();
        let (work, outside) = (root.path().join("work"), root.path().join("outside"));
        fs::create_dir_all(work.join("a")).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(work.join("a/own"), "x").unwrap();
        fs::write(outside.join("secret"), "x").unwrap();
        symlink(&outside, work.join("b")).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let exchange = nix::fcntl::RenameFlags::RENAME_EXCHANGE;
                let here = nix::fcntl::AT_FDCWD;
                while !done.load(Ordering::Relaxed) {
                    let (a, b) = (work.join("a"), work.join("b"));
                    nix::fcntl::renameat2(here, &a, here, &b, exchange).unwrap();
                }
            });
            for _ in 0..2_000 {
                let found = picked(&work, &["*/*"]).unwrap_or_default();
                assert!(!found.iter().any(|path| path.ends_with("secret")), "{found:?}");
            }
            done.store(true, Ordering::Relaxed);
        });
    }
}
