//! Moves finished work out: from the state once the history has it, and from
//! the history and the files once its time is over.

use std::time::{Duration, SystemTime};

use baton_state::{Command, Index, Timestamp, command::Evict};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    files::{FileName, FilesError},
    history::{self, PrunedJob},
    jobs::Jobs,
    uploads::KEEP,
};

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Since a job's end, or since a runner was last there; none for ever.
    pub max_age: Option<Duration>,
    /// Bytes of output of all finished jobs together; none for no limit.
    pub max_bytes: Option<u64>,
}

impl Default for Retention {
    fn default() -> Self {
        Self { max_age: Some(Duration::from_secs(7 * 24 * 60 * 60)), max_bytes: None }
    }
}

/// Jobs removed in one go, so that the history's writer is not held up.
const BATCH: u32 = 500;
/// Jobs that one entry of the log evicts.
const EVICTED_AT_ONCE: usize = 1000;
const EVICT_EVERY: Duration = Duration::from_millis(500);
const PRUNE_EVERY: Duration = Duration::from_secs(60);
const SWEEP_EVERY: Duration = Duration::from_secs(10 * 60);

/// Evicts finished jobs from the state as the history takes them.
pub(crate) async fn evict(jobs: Jobs, stop: CancellationToken) {
    let mut times = interval(EVICT_EVERY);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let position = jobs.history.position();
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = times.tick() => {}
        }
        if !jobs.raft.status().borrow().leading {
            continue;
        }
        let taken = *position.borrow();
        while let Some(through) = evictable(&jobs, taken) {
            let at = jobs.environment.clock.now();
            if let Err(error) = jobs.raft.propose(Command::Evict(Evict { through, at })).await {
                debug!(%error, "not evicted");
                break;
            }
        }
    }
}

fn evictable(jobs: &Jobs, taken: Index) -> Option<Index> {
    jobs.raft.state().evictable(taken, EVICTED_AT_ONCE)
}

/// Removes what is past its retention.
pub(crate) async fn prune(jobs: Jobs, retention: Retention, stop: CancellationToken) {
    let mut prunes = interval(PRUNE_EVERY);
    let mut sweeps = interval(SWEEP_EVERY);
    for times in [&mut prunes, &mut sweeps] {
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let result = tokio::select! {
            () = stop.cancelled() => return,
            _ = prunes.tick() => prune_once(&jobs, retention).await,
            _ = sweeps.tick() => sweep(&jobs).await,
        };
        if let Err(error) = result {
            warn!(%error, "retention did not finish; trying again later");
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum RetentionError {
    #[error(transparent)]
    History(#[from] history::Error),
    #[error(transparent)]
    Files(#[from] FilesError),
}

async fn prune_once(jobs: &Jobs, retention: Retention) -> Result<(), RetentionError> {
    let limits = history::Retention {
        max_age: retention.max_age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
        max_bytes: retention.max_bytes,
        batch: BATCH,
    };
    if let Some(age) = limits.max_age
        && jobs.raft.status().borrow().leading
    {
        let now = jobs.environment.clock.now();
        jobs.remove_gone_runners(Timestamp(now.0.saturating_sub(age))).await;
    }
    loop {
        let pruned = jobs.history.prune(jobs.environment.clock.now(), limits).await?;
        if pruned.is_empty() {
            return Ok(());
        }
        info!(jobs = pruned.len(), "removed jobs past their retention");
        for job in pruned {
            remove_logs(jobs, &job).await?;
        }
    }
}

async fn remove_logs(jobs: &Jobs, pruned: &PrunedJob) -> Result<(), FilesError> {
    for lease in &pruned.leases {
        jobs.files.remove(FileName::Log { job: pruned.id, lease: *lease }).await?;
    }
    Ok(())
}

/// Removes files that belong to nothing: archives that no job wants, and output
/// that a crash kept from being removed with its job.
async fn sweep(jobs: &Jobs) -> Result<(), RetentionError> {
    let mut listing = jobs.files.list();
    while let Some(file) = listing.next().await? {
        // By the clock of the file system, which also stamped the file.
        #[expect(clippy::disallowed_methods, reason = "compared with a file's time only")]
        let age = SystemTime::now().duration_since(file.modified).unwrap_or_default();
        if age < KEEP {
            continue;
        }
        let in_use = match file.name {
            FileName::Log { job, .. } => {
                jobs.raft.state().job(job).is_some() || jobs.history.job(job).await?.is_some()
            }
            FileName::Upload { digest } => {
                jobs.uploads.is_kept(&digest) || source_in_use(jobs, &digest.to_string()).await?
            }
        };
        if !in_use {
            debug!(file = %file.name, "removed a file that nothing uses");
            jobs.files.remove(file.name).await?;
        }
    }
    Ok(())
}

async fn source_in_use(jobs: &Jobs, digest: &str) -> Result<bool, history::Error> {
    let live = {
        let state = jobs.raft.state();
        let sources = state.jobs().values().filter_map(|job| job.spec.source.as_ref());
        sources.into_iter().any(|archive| archive.digest == digest)
    };
    // A job leaves the state only when the history has it: looked at in this
    // order it is seen in one of them.
    Ok(live || jobs.history.source_in_use(digest).await?)
}
