//! Which files a node fetches: those that its retention would not remove.
//!
//! An archive's time of change says when somebody last wanted it. Whoever is asked
//! for an archive renews it, the nodes tell each other and take the newest over, and
//! copies keep it; so all nodes remove an archive at about the same time, and none
//! while another has just promised it to a job.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use baton_state::{JobId, Timestamp};
use futures::{FutureExt as _, future::BoxFuture};
use tracing::warn;

use crate::{
    environment::Clock,
    files::{Digest, FileName, Files},
    history::{self, History},
    raft::{ProposeError, RaftHandle},
    trees::Trees,
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
    /// What is stored here: the manifests of trees.
    pub(crate) files: Files,
    /// What these name.
    pub(crate) trees: Trees,
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

    /// Whether a job, live or finished, has this archive, this manifest of a tree, or this
    /// chunk of a tree whose manifest was read.
    ///
    /// # Errors
    /// As [`Records::has_job`].
    pub(crate) async fn uses_source(&self, digest: Digest) -> Result<bool, history::Error> {
        if self.is_source(digest).await? {
            return Ok(true);
        }
        for tree in self.trees.naming(digest) {
            if self.is_source(tree).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn is_source(&self, digest: Digest) -> Result<bool, history::Error> {
        let digest = digest.to_string();
        let live = {
            let state = self.raft.state();
            let mut jobs = state.jobs().values();
            jobs.any(|job| {
                job.spec.archive().is_some_and(|archive| archive.digest == digest)
                    || job.trees().any(|tree| tree == digest)
            })
        };
        if live {
            return Ok(true);
        }
        self.history_is_whole().await?;
        self.history.source_in_use(&digest).await
    }

    /// Reads the manifests of the trees that jobs have, as far as they are stored here, so
    /// that it is known which chunks they name. Gives those that could not be read.
    ///
    /// # Errors
    /// As [`Records::has_job`].
    pub(crate) async fn read_trees(&self) -> Result<Vec<Digest>, history::Error> {
        let mut manifests: HashSet<Digest> = {
            let state = self.raft.state();
            let trees = state.jobs().values().flat_map(|job| job.trees());
            trees.filter_map(|tree| tree.parse().ok()).collect()
        };
        self.history_is_whole().await?;
        let finished = self.history.trees().await?;
        manifests.extend(finished.iter().filter_map(|tree| tree.parse::<Digest>().ok()));
        let mut unread = Vec::new();
        for manifest in self.trees.keep_only(&manifests) {
            match self.trees.content(&self.files, manifest).await {
                Ok(Some(_)) => {}
                Ok(None) => unread.push(manifest),
                Err(error) => {
                    warn!(%manifest, %error, "cannot read the manifest of a tree");
                    unread.push(manifest);
                }
            }
        }
        Ok(unread)
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
                if is_young(modified, self.clock.now()) || self.uses_source(digest).await? {
                    return Ok(true);
                }
                // What a manifest names that is not here yet is not known.
                Ok(!self.read_trees().await?.is_empty() || self.uses_source(digest).await?)
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
