//! Archives that somebody has just brought or named, which must not be removed
//! before the job that wants them is accepted.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::files::Digest;

/// How long an archive is kept for a job that has not come yet.
pub(crate) const KEEP: Duration = Duration::from_secs(60 * 60);

/// Archives in use by no job yet. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uploads {
    wanted: Arc<Mutex<HashMap<Digest, Instant>>>,
}

impl Uploads {
    /// Keeps an archive for [`KEEP`] from now.
    pub(crate) fn keep(&self, digest: Digest) {
        self.lock().insert(digest, Instant::now());
    }

    /// Whether an archive must be kept.
    pub(crate) fn is_kept(&self, digest: &Digest) -> bool {
        let mut wanted = self.lock();
        wanted.retain(|_, since| since.elapsed() < KEEP);
        wanted.contains_key(digest)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Digest, Instant>> {
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
