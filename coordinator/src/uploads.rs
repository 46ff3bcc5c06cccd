//! Archives that somebody has just brought or named, which must not be removed
//! before the job that wants them is accepted.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tokio::{sync::Mutex, time::Instant};

use crate::files::Digest;

/// How long an archive is kept for a job that has not come yet.
pub(crate) const KEEP: Duration = Duration::from_secs(60 * 60);

/// Entries that are not worth looking through.
const BEARABLE: usize = 1024;

/// Archives, manifests and chunks in use by no job yet. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Uploads {
    wanted: Arc<Mutex<Wanted>>,
}

#[derive(Debug, Default)]
struct Wanted {
    since: HashMap<Digest, Instant>,
    /// With more than this, those whose time is over are forgotten.
    bearable: usize,
}

impl Wanted {
    fn is_kept(&self, digest: &Digest) -> bool {
        self.since.get(digest).is_some_and(|since| since.elapsed() < KEEP)
    }

    fn forget(&mut self) {
        if self.since.len() > self.bearable {
            self.since.retain(|_, since| since.elapsed() < KEEP);
            self.bearable = BEARABLE.max(self.since.len() * 2);
        }
    }
}

impl Uploads {
    /// Keeps contents for [`KEEP`] from now. A removal that is under way ends
    /// first: whoever looks for one afterwards sees what stays true.
    pub(crate) async fn keep(&self, digests: impl IntoIterator<Item = Digest>) {
        let mut wanted = self.wanted.lock().await;
        let now = Instant::now();
        wanted.since.extend(digests.into_iter().map(|digest| (digest, now)));
        wanted.forget();
    }

    /// Carries out a removal, unless somebody wants the content.
    pub(crate) async fn unless_kept<T>(
        &self,
        digest: &Digest,
        removal: impl Future<Output = T>,
    ) -> Option<T> {
        let wanted = self.wanted.lock().await;
        if wanted.is_kept(digest) { None } else { Some(removal.await) }
    }
}
