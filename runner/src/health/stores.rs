//! What a runner keeps for later jobs, and can do without when its disk is nearly full.

use std::path::PathBuf;

use tracing::warn;

use crate::{caches::Caches, content::ContentStore, source::git};

/// All of it. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Stores {
    pub(crate) caches: Caches,
    pub(crate) contents: ContentStore,
    /// The folder with the mirrors of Git repositories.
    pub(crate) mirrors: PathBuf,
}

impl Stores {
    /// Removes so many bytes if there are, and gives how many those were: caches, then parts
    /// of folders, and mirrors last, which take the longest to come again.
    pub(super) fn reclaim(&self, bytes: u64) -> u64 {
        let told = |what: &str, error| {
            warn!(%error, "the disk is nearly full, and {what} cannot be removed");
            0
        };
        let mut freed = self.caches.reclaim(bytes).unwrap_or_else(|error| told("caches", error));
        freed += self.contents.reclaim(bytes.saturating_sub(freed));
        if freed < bytes {
            freed += git::reclaim(&self.mirrors, bytes - freed)
                .unwrap_or_else(|error| told("mirrors of repositories", error));
        }
        freed
    }
}
