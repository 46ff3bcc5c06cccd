//! Which caches there are. No I/O in here but the first look.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, ErrorKind},
    path::Path,
    sync::Arc,
};

use tracing::warn;

use super::{Wanted, record::Record};

/// Before the name of a project, which may be `..`.
const PREFIX: &str = "p-";

/// The folder of a project's caches.
pub(super) fn folder_of(project: &str) -> String {
    format!("{PREFIX}{project}")
}

/// By which a cache is found.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) project: String,
    /// Of its folder.
    pub(super) entry: String,
}

impl Name {
    pub(super) fn of(wanted: Wanted<'_>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for text in wanted.paths.iter().map(String::as_str).chain([wanted.key]) {
            hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
        }
        Self { project: wanted.project.to_owned(), entry: hasher.finalize().to_hex().to_string() }
    }
}

#[derive(Debug)]
struct Known {
    record: Record,
    /// Microseconds since the epoch.
    used_at: u64,
    /// Whoever reads it has a copy of this.
    readers: Arc<()>,
}

/// The caches that are whole.
#[derive(Debug, Default)]
pub(super) struct Index(BTreeMap<Name, Known>);

impl Index {
    /// Looks at what is in the folder `dir`. What cannot be read is no cache.
    pub(super) fn read(dir: &Path) -> io::Result<Self> {
        let mut index = Self::default();
        for of_project in names(dir)? {
            let Some(project) = of_project.strip_prefix(PREFIX) else { continue };
            for entry in names(&dir.join(&of_project))? {
                let folder = dir.join(&of_project).join(&entry);
                let found = Record::read(&folder);
                let name = Name { project: project.to_owned(), entry };
                match found {
                    Ok((record, used_at)) if name == Name::of(record.wanted(project)) => {
                        index.0.insert(name, Known { record, used_at, readers: Arc::default() });
                    }
                    Ok(_) => warn!(folder = %folder.display(), "a cache has another's name"),
                    Err(error) => warn!(folder = %folder.display(), %error, "an unreadable cache"),
                }
            }
        }
        Ok(index)
    }

    pub(super) fn has(&self, name: &Name) -> bool {
        self.0.contains_key(name)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.0.values().map(|known| known.record.bytes).sum()
    }

    pub(super) fn add(&mut self, name: Name, record: Record, now: u64) {
        self.0.insert(name, Known { record, used_at: now, readers: Arc::default() });
    }

    /// The one to restore: of the key, or else the newest that begins with the first of
    /// `fallbacks` that fits.
    pub(super) fn best(&self, wanted: Wanted<'_>, fallbacks: &[String]) -> Option<Name> {
        let exact = Some(Name::of(wanted)).filter(|name| self.has(name));
        exact.or_else(|| {
            fallbacks.iter().find_map(|prefix| self.newest(wanted.project, prefix, wanted.paths))
        })
    }

    pub(super) fn remove(&mut self, name: &Name) {
        self.0.remove(name);
    }

    /// The newest of these paths whose key begins so.
    fn newest(&self, project: &str, prefix: &str, paths: &[String]) -> Option<Name> {
        let fits = |(name, known): &(&Name, &Known)| {
            name.project == project
                && known.record.paths == paths
                && known.record.key.starts_with(prefix)
        };
        let newest = self.0.iter().filter(fits).max_by_key(|(_, known)| known.record.saved_at);
        newest.map(|(name, _)| name.clone())
    }

    /// It is not removed as long as what this gives, besides its key, is there.
    pub(super) fn begin_reading(&mut self, name: &Name, now: u64) -> Option<(String, Arc<()>)> {
        let known = self.0.get_mut(name)?;
        known.used_at = known.used_at.max(now);
        Some((known.record.key.clone(), Arc::clone(&known.readers)))
    }

    /// Takes out the one that was not used for the longest time, and that nobody reads; and
    /// how many bytes it has.
    pub(super) fn take_oldest(&mut self) -> Option<(Name, u64)> {
        let unread = self.0.iter().filter(|(_, known)| Arc::strong_count(&known.readers) == 1);
        let oldest = unread.min_by_key(|(_, known)| known.used_at)?.0.clone();
        let known = self.0.remove(&oldest)?;
        Some((oldest, known.record.bytes))
    }
}

impl Record {
    fn wanted<'a>(&'a self, project: &'a str) -> Wanted<'a> {
        Wanted { project, key: &self.key, paths: &self.paths }
    }
}

/// Names of folders; of what is not there, none.
fn names(dir: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error),
    };
    entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect()
}
