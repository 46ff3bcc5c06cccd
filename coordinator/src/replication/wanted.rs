//! Which files a node fetches: those that its retention would not remove.
//!
//! An archive's time of change says when somebody last wanted it. Whoever is asked
//! for an archive renews it, the nodes tell each other and take the newest over, and
//! copies keep it; so all nodes remove an archive at about the same time, and none
//! while another has just promised it to a job.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use baton_state::{JobId, Timestamp};
use futures::{FutureExt as _, future::BoxFuture};

use crate::{
    environment::Clock,
    files::FileName,
    history::{self, History},
    raft::{ProposeError, RaftHandle},
    uploads::KEEP,
};

/// Why it is not known whether a file is wanted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WantedError {
    #[error(transparent)]
    History(#[from] history::Error),
    #[error(transparent)]
    Raft(#[from] ProposeError),
}

/// Knows which files are wanted.
pub(super) trait Wanted: Send + Sync {
    /// Whether a file that was last changed, or wanted, at `modified` is to be here.
    fn is_wanted(
        &self,
        name: FileName,
        modified: SystemTime,
    ) -> BoxFuture<'_, Result<bool, WantedError>>;
}

/// What this node knows of jobs, live and finished.
#[derive(Clone)]
pub(crate) struct Records {
    /// The live ones.
    pub(crate) raft: RaftHandle,
    /// The others.
    pub(crate) history: History,
    /// Tells how long ago an archive was wanted.
    pub(crate) clock: Arc<dyn Clock>,
}

impl Records {
    /// Whether there is such a job.
    ///
    /// # Errors
    /// When the history cannot be read.
    pub(crate) async fn has_job(&self, job: JobId) -> Result<bool, history::Error> {
        let live = || self.raft.state().job(job).is_some();
        // A job leaves the state only when a history has it; looked at in this order
        // it is seen in one of them.
        if live() {
            return Ok(true);
        }
        self.history_is_whole().await?;
        self.history.contains(job).await
    }

    /// Whether a job, live or finished, has this archive.
    ///
    /// # Errors
    /// As [`Records::has_job`].
    pub(crate) async fn uses_source(&self, digest: &str) -> Result<bool, history::Error> {
        let live = {
            let state = self.raft.state();
            let mut archives = state.jobs().values().filter_map(|job| job.spec.archive());
            archives.any(|archive| archive.digest == digest)
        };
        if live {
            return Ok(true);
        }
        self.history_is_whole().await?;
        self.history.source_in_use(digest).await
    }

    /// Whether this node is to have a file that was last changed, or wanted, at
    /// `modified`.
    ///
    /// # Errors
    /// When that cannot be known now.
    pub(crate) async fn want(
        &self,
        name: FileName,
        modified: SystemTime,
    ) -> Result<bool, WantedError> {
        match name {
            FileName::Upload { digest } => {
                let is_young = is_young(modified, self.clock.now());
                Ok(is_young || self.uses_source(&digest.to_string()).await?)
            }
            FileName::Log { job, .. } => {
                if self.has_job(job).await? {
                    return Ok(true);
                }
                // This node may be behind the one that told of it.
                self.raft.read_barrier().await?;
                Ok(self.has_job(job).await?)
            }
        }
    }

    /// Waits until this node's history has what has left the state: another node's
    /// may have been faster.
    async fn history_is_whole(&self) -> Result<(), history::Error> {
        let evicted = self.raft.state().evicted_through();
        let mut position = self.history.position();
        position
            .wait_for(|position| *position >= evicted)
            .await
            .map(drop)
            .map_err(|_| history::Error::Stopped)
    }
}

impl Wanted for Records {
    fn is_wanted(
        &self,
        name: FileName,
        modified: SystemTime,
    ) -> BoxFuture<'_, Result<bool, WantedError>> {
        self.want(name, modified).boxed()
    }
}

/// Whether somebody may have brought a file for a job that is about to come.
pub(crate) fn is_young(modified: SystemTime, now: Timestamp) -> bool {
    age(modified, now) < KEEP
}

/// Whether a file stays young for long enough to accept a job that wants it.
pub(super) fn is_fresh(modified: SystemTime, now: Timestamp) -> bool {
    age(modified, now) < KEEP / 2
}

/// None of a file that seems to come from the future.
fn age(modified: SystemTime, now: Timestamp) -> Duration {
    from_millis(now.0).duration_since(modified).unwrap_or_default()
}

/// Milliseconds since the epoch.
pub(super) fn to_millis(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// The reverse of [`to_millis`].
pub(super) fn from_millis(millis: u64) -> SystemTime {
    UNIX_EPOCH.checked_add(Duration::from_millis(millis)).unwrap_or(UNIX_EPOCH)
}
