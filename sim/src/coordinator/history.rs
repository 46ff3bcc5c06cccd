//! The history's files when a process ends. SQLite's threads close their connections a
//! little later, and write what a process that was killed would not have written; so
//! the files are put back as they were.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

const FILES: [&str; 3] = ["history.db", "history.db-wal", "history.db-shm"];
/// Between two looks whether SQLite has closed its files.
const LOOK_AGAIN: Duration = Duration::from_micros(100);

/// The files as they were.
pub(super) struct HistoryImage(Vec<(PathBuf, Option<Vec<u8>>)>);

impl HistoryImage {
    /// Of a coordinator's folder.
    pub(super) fn take(folder: &Path) -> Self {
        let files = FILES.iter().map(|name| folder.join(name));
        Self(files.map(|path| (path.clone(), fs::read(path).ok())).collect())
    }

    /// Waits until nobody has the files open, and puts them back.
    pub(super) fn put_back(self) {
        let is_open = |path: PathBuf| self.0.iter().any(|(file, _)| *file == path);
        let open = || {
            let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
            descriptors.filter_map(|fd| fs::read_link(fd.path()).ok()).any(is_open)
        };
        while open() {
            thread::sleep(LOOK_AGAIN);
        }
        for (path, content) in &self.0 {
            let put = match content {
                Some(content) => fs::write(path, content),
                None => fs::remove_file(path),
            };
            match put {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::error!(%error, path = %path.display(), "cannot be put back");
                }
                _ => {}
            }
        }
    }
}

/// SQLite flushes its log before it writes to the main file, and not before that: a loss
/// of power takes all of it.
pub(super) fn lose_unflushed(folder: &Path) -> io::Result<()> {
    for name in &FILES[1..] {
        match fs::remove_file(folder.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}
