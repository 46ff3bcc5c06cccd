//! The caches of one attempt: put into its work folder before it starts, and kept when it
//! has succeeded. Which keys they had is noted in the attempt's folder, because by then
//! the files may have changed that the keys follow from.

use std::{
    io::{self, Read},
    os::{fd::OwnedFd, unix::ffi::OsStrExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use baton_proto::{
    globs::{self, KeyPart},
    v1,
};
use serde::{Deserialize, Serialize};

use crate::{
    caches::{CacheError, Caches, Restored, Saved, Wanted},
    collect::{self, Choice, Limits, PickedKind},
    shim::human,
    untrusted,
};

const RECORD: &str = "caches.json";
/// The longest record: 32 caches of 32 paths of 1 KiB each, and as much again.
const LONGEST: u64 = 4 << 20;
/// Hexadecimal digits that stand for the content of files.
const HASH_LENGTH: usize = 32;
/// Files that a part of a key may follow from.
const HASHED: Limits = Limits { bytes: u64::MAX, files: 100_000 };

/// A cache of the attempt, whose key says no more than itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Resolved {
    key: String,
    paths: Vec<String>,
    /// It was there before.
    known: bool,
}

/// What it takes to bring caches to an attempt, or to keep them.
pub(super) struct Caching {
    pub(super) caches: Caches,
    pub(super) project: String,
    /// The attempt's folder.
    pub(super) dir: PathBuf,
    /// The time of day in microseconds.
    pub(super) now: u64,
}

/// Why an attempt cannot have its caches.
#[derive(Debug, thiserror::Error)]
pub(super) enum CachingError {
    #[error("the key {key:?} of a cache cannot be worked out: {error}")]
    Key { key: String, error: CacheError },
    #[error("the cache {key:?} cannot be restored: {error}")]
    Restore { key: String, error: CacheError },
    #[error(transparent)]
    Io(#[from] io::Error),
}

impl Caching {
    /// Brings the caches that there are into the folder `work`; what is to be said of it.
    /// `elapsed` is the time since some moment.
    pub(super) fn restore(
        &self,
        wanted: &[v1::Cache],
        work: &OwnedFd,
        elapsed: &dyn Fn() -> Duration,
        stopped: &dyn Fn() -> bool,
    ) -> Result<Vec<String>, CachingError> {
        let (mut notes, mut resolved) = (Vec::new(), Vec::new());
        // All keys first: a cache is no part of what another one's follows from.
        let key = |text: &String| {
            let failed = |error| CachingError::Key { key: text.clone(), error };
            resolve(text, work, stopped).map_err(failed)
        };
        for cache in wanted {
            let fallbacks = cache.fallbacks.iter().map(key).collect::<Result<Vec<_>, _>>()?;
            resolved.push((key(&cache.key)?, &cache.paths, fallbacks));
        }
        let mut record = Vec::new();
        for (key, paths, fallbacks) in resolved {
            let wanted = Wanted { project: &self.project, key: &key, paths };
            let started = elapsed();
            let restored = self.caches.restore(wanted, &fallbacks, work, self.now, stopped);
            let restored =
                restored.map_err(|error| CachingError::Restore { key: key.clone(), error })?;
            let took = elapsed().saturating_sub(started);
            notes.extend(told(&key, restored.as_ref(), took));
            let known = restored.is_some_and(|restored| restored.key == key);
            record.push(Resolved { key, paths: paths.clone(), known });
        }
        untrusted::replace(
            &self.dir.join(RECORD),
            &serde_json::to_vec(&record).map_err(io::Error::from)?,
        )?;
        Ok(notes)
    }

    /// Keeps what there is in the folder `work` under the keys that were not there before;
    /// what is to be said of it.
    pub(super) fn save(&self, work: &OwnedFd, stopped: &dyn Fn() -> bool) -> Vec<String> {
        let resolved = match self.resolved() {
            Ok(resolved) => resolved,
            Err(error) => return vec![format!("no cache is kept: {error}")],
        };
        let new = resolved.iter().filter(|cache| !cache.known);
        let told = new.filter_map(|Resolved { key, paths, .. }| {
            let wanted = Wanted { project: &self.project, key, paths };
            match self.caches.save(wanted, work, self.now, stopped) {
                Ok(Saved::Kept(_) | Saved::Known) => None,
                Ok(Saved::Nothing) => Some(format!("cache {key}: nothing to keep")),
                Ok(Saved::TooLarge) => Some(format!(
                    "cache {key}: not kept, it is larger than the runner's caches may be together"
                )),
                Err(error) => Some(format!("cache {key}: not kept: {error}")),
            }
        });
        told.collect()
    }

    fn resolved(&self) -> io::Result<Vec<Resolved>> {
        Ok(serde_json::from_slice(&untrusted::read(&self.dir.join(RECORD), LONGEST)?)?)
    }
}

fn told(key: &str, restored: Option<&Restored>, took: Duration) -> Vec<String> {
    let Some(Restored { key: found, bytes, taken }) = restored else {
        return vec![format!("cache {key}: miss")];
    };
    let how = if found == key { "hit".to_owned() } else { format!("fallback {found}") };
    let took = human(Duration::from_millis(took.as_millis().try_into().unwrap_or(u64::MAX)));
    let mut notes = vec![format!("cache {key}: {how}, {bytes} bytes in {took}")];
    if !taken.is_empty() {
        let taken = taken.join(", ");
        notes.push(format!("cache {key}: {taken} not restored, there is something already"));
    }
    notes
}

/// The key with what its parts stand for.
fn resolve(text: &str, work: &OwnedFd, stopped: &dyn Fn() -> bool) -> Result<String, CacheError> {
    let parts = globs::key(text).map_err(CacheError::Choice)?;
    let part = |part| match part {
        KeyPart::Text(text) => Ok(text),
        KeyPart::Hash(pattern) => hash(&pattern, work, stopped),
    };
    parts.into_iter().map(part).collect()
}

/// What stands for the files that match, by their names and content.
fn hash(pattern: &str, work: &OwnedFd, stopped: &dyn Fn() -> bool) -> Result<String, CacheError> {
    let choice = Choice::of_globs(&[pattern.to_owned()]).map_err(CacheError::Choice)?;
    let mut hasher = blake3::Hasher::new();
    for picked in collect::pick(work, &choice, HASHED, stopped)? {
        if let PickedKind::File(_) = picked.kind {
            let path = Path::new(std::ffi::OsStr::from_bytes(&picked.path));
            let mut content = blake3::Hasher::new();
            content.update_reader(Stoppable(collect::open_file(work, path)?, stopped))?;
            hasher.update(&(picked.path.len() as u64).to_le_bytes());
            hasher.update(&picked.path).update(content.finalize().as_bytes());
        }
    }
    let mut hash = hasher.finalize().to_hex().to_string();
    hash.truncate(HASH_LENGTH);
    Ok(hash)
}

/// Reads until it is to stop.
struct Stoppable<'a, R>(R, &'a dyn Fn() -> bool);

impl<R: Read> Read for Stoppable<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.1() {
            return Err(io::Error::other("reading was stopped"));
        }
        self.0.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    const fn go_on() -> bool {
        false
    }

    fn key(text: &str, work: &Path) -> String {
        resolve(text, &collect::open_folder(work).unwrap(), &go_on).unwrap()
    }

    #[test]
    fn a_key_follows_from_names_and_content_of_files() {
        let work = tempfile::tempdir().unwrap();
        let none = key("k-{hash:**/*.lock}", work.path());
        fs::create_dir(work.path().join("sub")).unwrap();
        fs::write(work.path().join("a.lock"), "1").unwrap();
        let one = key("k-{hash:**/*.lock}", work.path());
        assert_eq!(one, key("k-{hash:**/*.lock}", work.path()));
        fs::write(work.path().join("a.lock"), "2").unwrap();
        let other = key("k-{hash:**/*.lock}", work.path());
        fs::rename(work.path().join("a.lock"), work.path().join("sub/a.lock")).unwrap();
        let moved = key("k-{hash:**/*.lock}", work.path());
        fs::write(work.path().join("none"), "other").unwrap();
        assert_eq!(moved, key("k-{hash:**/*.lock}", work.path()));
        let different: std::collections::BTreeSet<_> = [&none, &one, &other, &moved].into();
        assert_eq!(different.len(), 4);
        assert!(one.starts_with("k-") && one.len() == 2 + HASH_LENGTH);
    }

    #[test]
    fn a_key_is_not_worked_out_to_its_end_for_a_job_that_is_stopped() {
        let work = tempfile::tempdir().unwrap();
        let large = fs::File::create(work.path().join("large")).unwrap();
        // As many bytes as nobody could wait for.
        large.set_len(1 << 40).unwrap();
        let asked = std::cell::Cell::new(0);
        let stopped = || {
            asked.set(asked.get() + 1);
            asked.get() > 10
        };
        let folder = collect::open_folder(work.path()).unwrap();
        let error = resolve("{hash:large}", &folder, &stopped).unwrap_err();
        assert!(error.to_string().contains("stopped"), "{error}");
    }

    #[test]
    fn what_a_job_changed_keeps_the_key_that_it_started_with() {
        let root = tempfile::tempdir().unwrap();
        let work = root.path().join("work");
        fs::create_dir(&work).unwrap();
        fs::write(work.join("lock"), "before").unwrap();
        let caches = Caches::open(root.path(), 1000).unwrap();
        let caching =
            Caching { caches, project: "p".to_owned(), dir: root.path().to_owned(), now: 1 };
        let wanted = [v1::Cache {
            key: "k-{hash:lock}".to_owned(),
            paths: vec!["made".to_owned()],
            fallbacks: vec!["k-".to_owned()],
        }];
        let open = || collect::open_folder(&work).unwrap();
        let restore = || caching.restore(&wanted, &open(), &|| Duration::ZERO, &go_on).unwrap();
        assert!(restore()[0].ends_with(": miss"));
        fs::write(work.join("lock"), "after").unwrap();
        fs::write(work.join("made"), "1").unwrap();
        assert_eq!(caching.save(&open(), &go_on), [""; 0]);
        fs::write(work.join("lock"), "before").unwrap();
        fs::remove_file(work.join("made")).unwrap();
        let notes = restore();
        assert!(notes[0].contains(": hit, 1 bytes"), "{notes:?}");
        fs::write(work.join("lock"), "another").unwrap();
        fs::remove_file(work.join("made")).unwrap();
        let notes = restore();
        assert!(notes[0].contains(": fallback k-"), "{notes:?}");
    }
}
