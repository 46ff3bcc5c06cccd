//! Backups that the leader makes by itself, into a folder of its host or one that all
//! coordinators share.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use baton_proto::error::ApiError;
use baton_state::{NodeId, Timestamp};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::make::Backups;

/// How often the leader looks whether a backup is due.
const LOOK_EVERY: Duration = Duration::from_secs(10);
/// The time, or the schedule's, after which one that failed is tried again.
const TRY_AGAIN_AFTER: Duration = Duration::from_secs(5 * 60);
/// The time in a name, in UTC.
const TIME: &str = "%Y%m%dT%H%M%S";
/// How names end.
const WHOLE: &str = ".backup";
const INCOMPLETE: &str = ".incomplete.backup";
const PART: &str = ".part";

/// Backups that the leader makes by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Where they go.
    pub dir: PathBuf,
    /// The time between two.
    pub every: Duration,
    /// So many stay: the newest.
    pub keep: usize,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub(super) enum ScheduleError {
    #[error("cannot write {path}: {source}; check `backup_dir`, its disk and its free space")]
    Write { path: PathBuf, source: io::Error },
    #[error("{0}; {action}", action = .0.action)]
    Make(ApiError),
}

/// Makes a backup whenever one is due and this node leads, until `stop`.
pub(crate) async fn run(
    backups: Backups,
    schedule: Schedule,
    this: NodeId,
    stop: CancellationToken,
) {
    let mut times = interval(LOOK_EVERY.min(schedule.every));
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut not_before = Instant::now();
    while stop.run_until_cancelled(times.tick()).await.is_some() {
        if !backups.leads() || Instant::now() < not_before {
            continue;
        }
        match stop.run_until_cancelled(make_if_due(&backups, &schedule, this)).await {
            Some(Err(error)) => {
                warn!(%error, "no backup was made; trying again later");
                not_before = Instant::now() + TRY_AGAIN_AFTER.min(schedule.every);
            }
            Some(Ok(Some(path))) => info!(path = %path.display(), "wrote a backup"),
            Some(Ok(None)) | None => {}
        }
    }
    // What it was writing is of no use any more.
    let folder = Folder::new(&schedule.dir, &backups.cluster_id());
    let part = folder.part(this);
    if let Err(error) = remove_if_there(&part) {
        warn!(path = %part.display(), %error, "a part of a backup is left over");
    }
}

/// Gives the backup if one was made.
pub(super) async fn make_if_due(
    backups: &Backups,
    schedule: &Schedule,
    this: NodeId,
) -> Result<Option<PathBuf>, ScheduleError> {
    let (folder, now) = (Folder::new(&schedule.dir, &backups.cluster_id()), backups.now());
    let writing = |path: &Path| {
        let path = path.to_owned();
        move |source| ScheduleError::Write { path, source }
    };
    fs::create_dir_all(&folder.dir).map_err(writing(&folder.dir))?;
    let there = folder.list().map_err(writing(&folder.dir))?;
    folder.remove_parts(|node| backups.is_member(node)).map_err(writing(&folder.dir))?;
    let every = u64::try_from(schedule.every.as_millis()).unwrap_or(u64::MAX);
    // One from the future is of a clock that went wrong.
    if there.iter().any(|backup| backup.at.0 <= now.0 && now.0 - backup.at.0 < every) {
        return Ok(None);
    }
    let part = folder.part(this);
    let untimely = || {
        writing(&folder.dir)(io::Error::other("the host's clock shows no time that can be written"))
    };
    folder.path(now, true).ok_or_else(untimely)?;
    let mut options = File::options();
    // Jobs' environments and output are nobody else's business.
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let file = options.open(&part).map_err(writing(&part))?;
    // The disk's word, which is not for those who ask over the network.
    let failure = Arc::new(Mutex::new(None));
    let (failed, mut out) = (Arc::clone(&failure), file.try_clone().map_err(writing(&part))?);
    let sink = move |bytes: Vec<u8>| {
        out.write_all(&bytes).map_err(|error| {
            let kind = error.kind();
            *failed.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
            kind.into()
        })
    };
    let made = backups.make(Box::new(sink)).await.map_err(|error| {
        // A partial one is of no use; the next try begins with the same name.
        let _ = fs::remove_file(&part);
        let failure = failure.lock().unwrap_or_else(PoisonError::into_inner).take();
        match failure {
            Some(source) => ScheduleError::Write { path: part.clone(), source },
            None => ScheduleError::Make(error),
        }
    })?;
    let path = folder.path(now, made.missing_files == 0).ok_or_else(untimely)?;
    let finish = || {
        file.sync_all()?;
        fs::rename(&part, &path)?;
        File::open(&folder.dir)?.sync_all()
    };
    finish().map_err(writing(&path))?;
    folder.keep(schedule.keep).map_err(writing(&folder.dir))?;
    Ok(Some(path))
}

/// Removes all backups of a cluster in a folder but the newest, and the newest that lacks
/// nothing.
#[cfg(test)]
pub(super) fn keep(dir: &Path, cluster_id: &str, newest: usize) -> io::Result<()> {
    Folder::new(dir, cluster_id).keep(newest)
}

/// The backups of one cluster in a folder.
struct Folder {
    dir: PathBuf,
    cluster_id: String,
}

impl Folder {
    fn new(dir: &Path, cluster_id: &str) -> Self {
        Self { dir: dir.to_owned(), cluster_id: cluster_id.to_owned() }
    }

    /// `baton-CLUSTER-TIME.backup`, with `.incomplete` before the end if it lacks files of
    /// jobs; none at a time that has no such name.
    fn path(&self, at: Timestamp, is_whole: bool) -> Option<PathBuf> {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(at.0).ok()?).ok()?;
        let end = if is_whole { WHOLE } else { INCOMPLETE };
        Some(self.dir.join(format!("baton-{}-{}Z{end}", self.cluster_id, at.strftime(TIME))))
    }

    /// What a node is writing: each has one of its own, in a folder that all share.
    fn part(&self, node: NodeId) -> PathBuf {
        self.dir.join(format!("baton-{}.{node}{PART}", self.cluster_id))
    }

    /// Removes what nodes were writing that are no members any more.
    fn remove_parts(&self, is_member: impl Fn(NodeId) -> bool) -> io::Result<()> {
        for entry in fs::read_dir(&self.dir)? {
            let name = entry?.file_name();
            let node = name.to_str().and_then(|name| self.writer_of(name));
            if let Some(node) = node.filter(|node| !is_member(*node)) {
                remove_if_there(&self.part(node))?;
                info!(%node, "removed a part of a backup of a node that is no member");
            }
        }
        Ok(())
    }

    fn writer_of(&self, name: &str) -> Option<NodeId> {
        let node = name.strip_prefix("baton-")?.strip_prefix(&self.cluster_id)?;
        node.strip_prefix('.')?.strip_suffix(PART)?.parse().ok().map(NodeId)
    }

    /// Those that are there, the oldest first. Other files are not looked at.
    fn list(&self) -> io::Result<Vec<Listed>> {
        let mut there = Vec::new();
        for entry in fs::read_dir(&self.dir)? {
            let entry = entry?;
            if let Some((at, is_whole)) =
                entry.file_name().to_str().and_then(|name| self.time_in(name))
            {
                there.push(Listed { at, is_whole, path: entry.path() });
            }
        }
        there.sort_unstable_by_key(|backup| backup.at);
        Ok(there)
    }

    /// When a backup was made, and whether it lacks nothing.
    fn time_in(&self, name: &str) -> Option<(Timestamp, bool)> {
        let time = name.strip_prefix("baton-")?.strip_prefix(&self.cluster_id)?;
        let time = time.strip_prefix('-')?;
        let ends = [(INCOMPLETE, false), (WHOLE, true)];
        let mut ends = ends.into_iter().filter_map(|(end, is)| Some((time.strip_suffix(end)?, is)));
        let (time, is_whole) = ends.next()?;
        let time = jiff::civil::DateTime::strptime(TIME, time.strip_suffix('Z')?).ok()?;
        let time = time.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
        Some((Timestamp(u64::try_from(time.as_millisecond()).ok()?), is_whole))
    }

    /// Removes all but the newest, and the newest that lacks nothing.
    fn keep(&self, newest: usize) -> io::Result<()> {
        let there = self.list()?;
        let whole = there.iter().rposition(|backup| backup.is_whole);
        let old = there[..there.len().saturating_sub(newest)].iter().enumerate();
        for (_, Listed { path, .. }) in old.filter(|(place, _)| Some(*place) != whole) {
            fs::remove_file(path)?;
            info!(path = %path.display(), "removed an old backup");
        }
        Ok(())
    }
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A backup that is there.
struct Listed {
    at: Timestamp,
    is_whole: bool,
    path: PathBuf,
}
