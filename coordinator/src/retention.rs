//! Moves finished work out: from the state once the history has it, and from
//! the history and the files once its time is over.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, SystemTime},
};

use baton_state::{Command, Index, JobId, Source, Timestamp, command::Evict};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use crate::{
    files::{Digest, FileName, FilesError},
    history::{self, PrunedJob},
    jobs::Jobs,
    replication::is_young,
    steady::Steady,
};

/// What is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Since a job's end, or since a runner was last there; none for ever.
    pub max_age: Option<Duration>,
    /// Bytes on disk of everything but what live jobs need: output, whole or not, and
    /// archives; none for no limit.
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
            biased;
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
    let mut steady = Steady::default();
    for times in [&mut prunes, &mut sweeps] {
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    }
    loop {
        let result = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            _ = prunes.tick() => {
                let is_steady = steady.look(jobs.environment.clock.now(), Instant::now());
                let max_age = retention.max_age.filter(|_| is_steady);
                prune_once(&jobs, Retention { max_age, ..retention }).await
            }
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
    if let Some(age) = retention.max_age {
        let age = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        let now = jobs.environment.clock.now();
        if jobs.raft.status().borrow().leading {
            jobs.remove_gone_runners(Timestamp(now.0.saturating_sub(age))).await;
        }
        prune_old(jobs, now, age).await?;
    }
    match retention.max_bytes {
        Some(limit) => shrink(jobs, limit).await,
        None => Ok(()),
    }
}

async fn prune_old(jobs: &Jobs, now: Timestamp, max_age: u64) -> Result<(), RetentionError> {
    let limits = history::Retention { max_age: Some(max_age), oldest: 0, batch: BATCH };
    loop {
        let pruned = jobs.history.prune(now, limits).await?;
        if pruned.is_empty() {
            return Ok(());
        }
        info!(jobs = pruned.len(), "removed jobs past their retention");
        for job in pruned {
            remove_logs(jobs, &job).await?;
        }
    }
}

/// Removes the oldest jobs until the disk holds no more than `limit`. One at a
/// time: what that frees is known only when it is done.
async fn shrink(jobs: &Jobs, limit: u64) -> Result<(), RetentionError> {
    let mut used = usage(jobs, limit).await?;
    if used > limit && !read_trees(jobs).await? {
        warn!(used, limit, "nothing is removed while it is not known what all trees name");
        return Ok(());
    }
    let oldest = history::Retention { max_age: None, oldest: 1, batch: 1 };
    let mut removed = 0_u64;
    while used > limit {
        let pruned = jobs.history.prune(jobs.environment.clock.now(), oldest).await?;
        let Some(job) = pruned.first() else {
            warn!(used, limit, "what is left of the stored files is needed or too new to remove");
            break;
        };
        used = used.saturating_sub(remove_logs(jobs, job).await?);
        used = used.saturating_sub(remove_contents(jobs, job).await?);
        removed += 1;
    }
    if removed > 0 {
        info!(jobs = removed, used, limit, "removed the oldest jobs to free disk space");
    }
    Ok(())
}

/// Bytes of all files that go with finished jobs: to remove these would not make
/// the others fewer, which live jobs need, or one that is about to come, or which
/// [`sweep`] removes. Archives that nothing uses are removed on the way. Whether
/// output belongs to a job is looked up only if all of it would be over `limit`.
async fn usage(jobs: &Jobs, limit: u64) -> Result<u64, RetentionError> {
    let (live, sources) = needed(jobs);
    let is_needed = |digest| {
        let trees = jobs.trees.naming(digest);
        sources.contains(&digest) || trees.iter().any(|tree| sources.contains(tree))
    };
    let mut used = 0_u64;
    let mut logs: HashMap<JobId, u64> = HashMap::new();
    let mut trees = KnownTrees::default();
    let mut listing = jobs.files.list();
    while let Some(file) = listing.next().await? {
        match file.name {
            FileName::Log { job, .. } if live.contains(&job) => {}
            FileName::Log { job, .. } => {
                used = used.saturating_add(file.length);
                *logs.entry(job).or_default() += file.length;
            }
            FileName::Upload { .. } if is_young(file.modified, jobs.environment.clock.now()) => {}
            FileName::Upload { digest } => {
                if trees.are_known(jobs).await?
                    && !is_needed(digest)
                    && !remove_unused(jobs, file.name, file.modified).await?
                {
                    used = used.saturating_add(file.length);
                }
            }
        }
    }
    if used > limit {
        for (job, length) in logs {
            if !jobs.records().has_job(job).await? {
                used = used.saturating_sub(length);
            }
        }
    }
    Ok(used)
}

/// The jobs that have not ended, and the archives and trees they want.
fn needed(jobs: &Jobs) -> (HashSet<JobId>, HashSet<Digest>) {
    let state = jobs.raft.state();
    let live = || state.jobs().values().filter(|job| !job.is_finished());
    let archives = live().filter_map(|job| job.spec.archive()).map(|archive| &archive.digest);
    let archives = archives.map(String::as_str);
    let trees = live().flat_map(|job| job.trees());
    let sources = archives.chain(trees).filter_map(|digest| digest.parse().ok()).collect();
    (live().map(|job| job.id).collect(), sources)
}

/// Whether it is known which chunks the trees of all jobs have: found out when it is first
/// asked for.
#[derive(Default)]
struct KnownTrees(Option<bool>);

impl KnownTrees {
    async fn are_known(&mut self, jobs: &Jobs) -> Result<bool, RetentionError> {
        match self.0 {
            Some(known) => Ok(known),
            None => Ok(*self.0.insert(read_trees(jobs).await?)),
        }
    }
}

/// Reads the manifests of all trees; whether all are read. One that no coordinator has any
/// more is of no use, and neither are its chunks.
async fn read_trees(jobs: &Jobs) -> Result<bool, RetentionError> {
    let mut knows_all = true;
    for manifest in jobs.records().read_trees().await? {
        let name = FileName::Upload { digest: manifest };
        jobs.replication.ensure(name).await?;
        let is_read = matches!(jobs.contents().content(manifest).await, Ok(Some(_)));
        knows_all &= is_read || !jobs.replication.is_elsewhere(name);
    }
    Ok(knows_all)
}

/// Gives the bytes that this freed.
async fn remove_logs(jobs: &Jobs, pruned: &PrunedJob) -> Result<u64, FilesError> {
    let mut freed = 0_u64;
    for lease in &pruned.leases {
        let name = FileName::Log { job: pruned.id, lease: *lease };
        let stat = jobs.files.stat(name).await?;
        jobs.files.remove(name).await?;
        freed = freed.saturating_add(stat.map_or(0, |stat| stat.length));
    }
    Ok(freed)
}

/// Removes what a job brought along, and what it left, if nothing else uses it; gives the
/// bytes that this freed.
async fn remove_contents(jobs: &Jobs, pruned: &PrunedJob) -> Result<u64, RetentionError> {
    let (archive, tree) = match &pruned.source {
        Some(Source::Archive(archive)) => (Some(&archive.digest), None),
        Some(Source::Tree(tree)) => (None, Some(&tree.digest)),
        Some(Source::Git(_) | Source::Workspace(_)) | None => (None, None),
    };
    if (tree.is_some() || !pruned.artifacts.is_empty()) && !read_trees(jobs).await? {
        return Ok(0);
    }
    let mut digests: Vec<Digest> = archive.into_iter().filter_map(|it| it.parse().ok()).collect();
    for tree in tree.into_iter().chain(&pruned.artifacts) {
        let Ok(manifest) = tree.parse() else { continue };
        digests.push(manifest);
        if let Ok(Some(content)) = jobs.contents().content(manifest).await {
            digests.extend(content.digests());
        }
    }
    let mut freed = 0_u64;
    for digest in digests {
        let name = FileName::Upload { digest };
        if let Some(stat) = jobs.files.stat(name).await?
            && remove_unused(jobs, name, stat.modified).await?
        {
            freed = freed.saturating_add(stat.length);
        }
    }
    Ok(freed)
}

/// Removes files that belong to nothing: archives and parts of trees that no job wants,
/// and output that a crash kept from being removed with its job.
async fn sweep(jobs: &Jobs) -> Result<(), RetentionError> {
    let mut trees = KnownTrees::default();
    let mut listing = jobs.files.list();
    while let Some(file) = listing.next().await? {
        if is_young(file.modified, jobs.environment.clock.now())
            || matches!(file.name, FileName::Upload { .. }) && !trees.are_known(jobs).await?
        {
            continue;
        }
        if remove_unused(jobs, file.name, file.modified).await? {
            debug!(file = %file.name, "removed a file that nothing uses");
        }
    }
    Ok(())
}

/// Removes a file if nothing uses it and nothing new is about to; whether it did. The
/// trees of all jobs must be known ([`read_trees`]).
async fn remove_unused(
    jobs: &Jobs,
    name: FileName,
    modified: SystemTime,
) -> Result<bool, RetentionError> {
    if is_young(modified, jobs.environment.clock.now()) {
        return Ok(false);
    }
    match name {
        FileName::Log { job, .. } => {
            if jobs.records().has_job(job).await? {
                return Ok(false);
            }
            Ok(jobs.files.remove_as_of(name, modified).await?)
        }
        FileName::Upload { digest } => {
            let removal = async {
                if jobs.records().uses_source(digest).await? {
                    return Ok(false);
                }
                // Another node may just have promised it to a job.
                Ok(jobs.files.remove_as_of(name, modified).await?)
            };
            jobs.uploads.unless_kept(&digest, removal).await.unwrap_or(Ok(false))
        }
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
