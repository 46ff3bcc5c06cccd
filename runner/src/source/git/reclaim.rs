//! Gives back the room that mirrors take: the next fetch makes them anew.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use super::mirror::LOCK;
use crate::untrusted;

/// The size of a block in what a file's metadata says.
const BLOCK: u64 = 512;

/// Removes mirrors below `cache` that nobody has, those first that were used longest ago,
/// until so many bytes are free; how many that came to.
pub(crate) fn reclaim(cache: &Path, wanted: u64) -> io::Result<u64> {
    let mut locks = Vec::new();
    for entry in entries(cache)? {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == LOCK) {
            locks.push((entry.metadata()?.modified()?, path));
        }
    }
    locks.sort();
    let mut freed = 0;
    for (_, path) in locks {
        if freed >= wanted {
            break;
        }
        // The file stays: somebody may have opened it and wait for it.
        let lock = OpenOptions::new().write(true).open(&path)?;
        let mirror = path.with_extension("");
        if lock.try_lock().is_ok() {
            freed += size(&mirror)?;
            untrusted::remove(&mirror)?;
        }
    }
    Ok(freed)
}

/// Bytes on the disk.
fn size(path: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in entries(path)? {
        let metadata = entry.metadata()?;
        bytes += metadata.blocks() * BLOCK;
        if metadata.is_dir() {
            bytes += size(&entry.path())?;
        }
    }
    Ok(bytes)
}

fn entries(folder: &Path) -> io::Result<Vec<fs::DirEntry>> {
    match fs::read_dir(folder) {
        Ok(entries) => entries.collect(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        fs::File,
        time::{Duration, SystemTime},
    };

    use super::*;

    /// Mirrors of 64 KiB, the first of them used longest ago.
    fn cache(names: &[&str]) -> tempfile::TempDir {
        let cache = tempfile::tempdir().unwrap();
        for (age, name) in names.iter().rev().enumerate() {
            fs::create_dir_all(cache.path().join(name).join("objects")).unwrap();
            fs::write(cache.path().join(name).join("objects/pack"), [7; 64 << 10]).unwrap();
            let lock = File::create(cache.path().join(format!("{name}.{LOCK}"))).unwrap();
            let age = Duration::from_secs(60 * age as u64 + 60);
            lock.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 30) - age).unwrap();
        }
        cache
    }

    #[test]
    fn what_was_used_longest_ago_goes_first_and_no_more_than_is_needed() {
        let cache = cache(&["a", "b", "c"]);
        let freed = reclaim(cache.path(), 100 << 10).unwrap();
        assert!(freed >= 128 << 10, "{freed}");
        let is_there = |name: &str| cache.path().join(name).exists();
        assert_eq!(["a", "b", "c"].map(is_there), [false, false, true]);
        assert!(is_there("a.lock"));
    }

    #[test]
    fn a_mirror_that_somebody_has_stays() {
        let cache = cache(&["a", "b"]);
        let held = File::open(cache.path().join("a.lock")).unwrap();
        held.lock().unwrap();
        assert!(reclaim(cache.path(), u64::MAX).unwrap() > 0);
        assert!(cache.path().join("a").exists() && !cache.path().join("b").exists());
    }

    #[test]
    fn no_mirrors_are_nothing_to_give_back() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(reclaim(&folder.path().join("none"), 1).unwrap(), 0);
    }
}
