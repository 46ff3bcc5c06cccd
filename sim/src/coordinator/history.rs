//! The history's files when a process ends. SQLite's threads close their connections a
//! little later, and write what a process that was killed would not have written; so
//! the files are put back as they were.

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use crate::disk::gone;

const FILES: [&str; 3] = [super::HISTORY, "history.db-wal", "history.db-shm"];
/// Between two looks whether SQLite has closed its files.
const LOOK_AGAIN: Duration = Duration::from_micros(100);
/// Looks after which it never will have: 10 s of waiting.
const LOOKS: u32 = 100_000;

/// The files as they were.
pub(super) struct HistoryImage(Vec<(PathBuf, Option<Vec<u8>>)>);

impl HistoryImage {
    /// Of a coordinator's folder.
    pub(super) fn take(folder: &Path) -> Self {
        let files = FILES.iter().map(|name| folder.join(name));
        Self(files.map(|path| (path.clone(), fs::read(path).ok())).collect())
    }

    /// Waits until nobody has the files open, and puts them back.
    ///
    /// # Errors
    /// When a file stays open, or cannot be written.
    pub(super) fn put_back(self) -> io::Result<()> {
        let is_open = |path: &PathBuf| self.0.iter().any(|(file, _)| file == path);
        let open = || {
            let descriptors = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
            descriptors.filter_map(|fd| fs::read_link(fd.path()).ok()).find(is_open)
        };
        let mut looks = 0;
        while let Some(path) = open() {
            looks += 1;
            if looks > LOOKS {
                let stays = format!("{} stays open after its process has ended", path.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, stays));
            }
            thread::sleep(LOOK_AGAIN);
        }
        for (path, content) in &self.0 {
            match content {
                Some(content) => fs::write(path, content)?,
                None => gone(fs::remove_file(path))?,
            }
        }
        Ok(())
    }
}

/// SQLite flushes its log before it writes to the main file, and not before that: a loss
/// of power takes all of it.
pub(super) fn lose_unflushed(folder: &Path) -> io::Result<()> {
    for name in &FILES[1..] {
        gone(fs::remove_file(folder.join(name)))?;
    }
    Ok(())
}
