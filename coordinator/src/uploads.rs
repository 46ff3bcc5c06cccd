//! Archives that somebody has just brought or named, which must not be removed
//! before the job that wants them is accepted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use crate::files::Digest;

/// How long an archive is kept for a job that has not come yet.
pub(crate) const KEEP: Duration = Duration::from_secs(60 * 60);

/// Archives in use by no job yet. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uploads {
    wanted: Arc<Mutex<HashMap<Digest, Instant>>>,
}

impl Uploads {
    /// Keeps an archive for [`KEEP`] from now. A removal that is under way ends
    /// first: whoever looks for the archive afterwards sees what stays true.
    pub(crate) async fn keep(&self, digest: Digest) {
        self.wanted.lock().await.insert(digest, Instant::now());
    }

    /// Carries out a removal, unless somebody wants the archive.
    pub(crate) async fn unless_kept<T>(
        &self,
        digest: &Digest,
        removal: impl Future<Output = T>,
    ) -> Option<T> {
        let mut wanted = self.wanted.lock().await;
        wanted.retain(|_, since| since.elapsed() < KEEP);
        if wanted.contains_key(digest) { None } else { Some(removal.await) }
    }
}
