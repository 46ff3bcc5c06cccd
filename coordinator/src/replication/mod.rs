//! Stored files on every coordinator, so that output and archives outlive one.
//!
//! ```text
//! Files ── changes ─► serve (WatchFiles) ──► watch of each other member ─► View
//!   ▲                                                                       │ │
//!   └── fetch ◄── ReadFile ── whoever has more ◄────────────────────────────┘ │
//! SendLog, Upload ◄── kept: on disk at a majority of the voters ◄─────────────┘
//! ```
//!
//! Every node tells every other what it has of each file, and each fetches what it
//! lacks from somebody who has more. The same goes for a leader, so what it needs
//! after a change of leaders comes by the same way. Nothing of it goes through the
//! Raft log, and nothing in here decides about a job.
//!
//! Two may write one file at the same time: the runner by `SendLog`, and a fetch
//! that brings what other nodes have of it. That is harmless for a log: one attempt
//! writes it, from one spool, so the bytes at an offset never differ, and a write of
//! what is there already does nothing. The bytes of an upload are only known to be
//! right once it is sealed; so an upload is fetched when somebody has it sealed, and
//! what a broken upload left on one node stays there.

mod backlog;
mod choose;
mod copy;
mod fetch;
mod kept;
mod members;
mod open;
mod own_disk;
mod quorum;
pub(crate) mod serve;
#[cfg(test)]
mod tests;
mod view;
mod wanted;
mod watch;
mod wire;

use std::{sync::Arc, time::Duration};

use baton_proto::error::{ApiError, Reason};
use tokio::{
    sync,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::warn;

pub use self::members::{Answers, Members, NotGiven};
use self::{fetch::Fetcher, open::OpenCopies, own_disk::OwnDisk, view::View, wanted::Wanted};
pub(crate) use self::{
    kept::Kept,
    quorum::Standing,
    wanted::{Records, is_young},
};
use crate::{
    environment::Clock,
    files::{Appender, Digest, FileName, Files, FilesError, Names},
    raft::RaftHandle,
};

/// How long a caller waits while nothing more of a file comes.
const PATIENCE: Duration = Duration::from_secs(5);

/// The replication of one node's files. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Replication {
    shared: Arc<Shared>,
}

struct Shared {
    files: Files,
    clock: Arc<dyn Clock>,
    standing: sync::watch::Receiver<Standing>,
    /// Keeps `standing` as it is where nothing changes it.
    _alone: Option<sync::watch::Sender<Standing>>,
    view: View,
    /// Files that this node may lack something of.
    told: Names,
    /// The same, of those that were in the list of all that a node has.
    listed: Names,
    /// How many of these it still lacks; none while that is not known.
    lacking: sync::watch::Sender<Option<u64>>,
    /// Files that somebody waits for.
    urgent: Names,
    open: OpenCopies,
    disk: OwnDisk,
}

impl Replication {
    /// Starts to tell, to listen and to fetch.
    pub(crate) fn start(
        files: Files,
        members: Arc<dyn Members>,
        raft: &RaftHandle,
        records: Records,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let (standing, clock) = (follow_standing(raft, tasks, stop), Arc::clone(&records.clock));
        Self::start_with(files, members, standing, Arc::new(records), clock, tasks, stop)
    }

    fn start_with(
        files: Files,
        members: Arc<dyn Members>,
        standing: sync::watch::Receiver<Standing>,
        wanted: Arc<dyn Wanted>,
        clock: Arc<dyn Clock>,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Self {
        let replication = Self::new(files, standing, None, clock);
        for node in members.others().into_keys() {
            // Whoever waits for a file must wait for these to tell what they have.
            replication.shared.view.begin(node);
        }
        let fetcher = Fetcher::new(&replication.shared, Arc::clone(&members), wanted);
        let until = stop.clone();
        tasks.spawn(async move { until.run_until_cancelled(fetcher.run()).await });
        let (shared, until) = (Arc::clone(&replication.shared), stop.clone());
        tasks.spawn(async move {
            until.run_until_cancelled(watch::run(shared, members)).await;
        });
        replication
    }

    /// The replication of a node that is a cluster of its own: to nobody.
    #[cfg(test)]
    pub(crate) fn alone(files: Files) -> Self {
        let this = baton_state::NodeId(1);
        let standing = Standing { this, leader: this, leading: true, voters: vec![this] };
        let (sender, standing) = sync::watch::channel(standing);
        let clock = crate::environment::Environment::system().clock;
        Self::new(files, standing, Some(sender), clock)
    }

    fn new(
        files: Files,
        standing: sync::watch::Receiver<Standing>,
        alone: Option<sync::watch::Sender<Standing>>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        // A node alone has all there is.
        let lacking = sync::watch::Sender::new(alone.is_some().then_some(0));
        Self {
            shared: Arc::new(Shared {
                files,
                clock,
                standing,
                _alone: alone,
                view: View::default(),
                told: Names::default(),
                listed: Names::default(),
                lacking,
                urgent: Names::default(),
                open: OpenCopies::default(),
                disk: OwnDisk::default(),
            }),
        }
    }

    /// How many stored files others had when they told of all that they have, which are
    /// not here yet; none while that is not known.
    pub(crate) fn lacking(&self) -> sync::watch::Receiver<Option<u64>> {
        self.shared.lacking.subscribe()
    }

    /// What a majority of the voters has on disk of the file of an appender.
    pub(crate) fn kept(&self, name: FileName, appender: &Appender) -> Kept {
        Kept::new(Arc::clone(&self.shared), name, appender.durable())
    }

    /// Returns once a majority of the voters has the file sealed with this digest.
    /// This node must have.
    pub(crate) async fn sealed(&self, name: FileName, digest: Digest) {
        self.agreed(name, |standing| self.shared.view.is_sealed(standing, name, digest)).await;
    }

    /// Returns when this node leads no more.
    pub(crate) async fn deposed(&self) {
        let mut standing = self.shared.standing.clone();
        if standing.wait_for(|standing| !standing.leading).await.is_err() {
            // It is as it is for good.
            std::future::pending::<()>().await;
        }
    }

    /// Waits until something is true of what the members have of a file.
    async fn agreed(&self, name: FileName, agreed: impl Fn(&Standing) -> bool) {
        let mut standing = self.shared.standing.clone();
        let mut told = self.shared.view.subscribe(name);
        loop {
            // In this order, so that nothing told meanwhile is missed.
            told.mark_unchanged();
            if agreed(&standing.borrow_and_update().clone()) {
                return;
            }
            tokio::select! {
                biased;
                // The view keeps the sender.
                _ = told.changed() => {}
                changed = standing.changed() => if changed.is_err() {
                    let _ = told.changed().await;
                }
            }
        }
    }

    /// Has this node fetch what others have of a file, and returns when it has it
    /// or it is known that there is no more to be had. Whoever it is for finds in
    /// the store what there is.
    ///
    /// # Errors
    /// Those of the store; also when there is more to be had, and no room for it here.
    pub(crate) async fn ensure(&self, name: FileName) -> Result<(), FilesError> {
        if self.shared.files.holds(name).await?.is_some_and(|held| held.sealed.is_some()) {
            return Ok(());
        }
        self.shared.view.reach();
        let (shared, mut told) = (&self.shared, self.shared.view.subscribe(name));
        let mut lists = shared.view.lists();
        let (mut goal, mut before) = (None, 0);
        let mut deadline = Instant::now() + PATIENCE;
        loop {
            told.mark_unchanged();
            lists.mark_unchanged();
            let held = shared.files.holds(name).await?;
            let length = held.map_or(0, |held| held.length);
            if held.is_some_and(|held| held.sealed.is_some()) {
                return Ok(());
            }
            if length > before {
                before = length;
                deadline = Instant::now() + PATIENCE;
            }
            if goal.is_none() && shared.view.is_settled() {
                goal = Some(shared.view.most(name));
            }
            // What is not sealed grows on: as much as there was is enough.
            if goal.is_some_and(|(most, sealed)| !sealed && length >= most) {
                return Ok(());
            }
            shared.urgent.put([name]);
            tokio::select! {
                biased;
                // Before the others: these may have something to tell all the time.
                () = sleep_until(deadline) => {
                    let (most, sealed) = shared.view.most(name);
                    let lacks = sealed || length < most;
                    return if lacks && shared.disk.is_full() {
                        Err(FilesError::DiskFull)
                    } else {
                        Ok(())
                    };
                }
                _ = told.changed() => {}
                _ = lists.changed() => {}
            }
        }
    }

    /// Whether another node that can be reached has something of a file.
    pub(crate) fn is_elsewhere(&self, name: FileName) -> bool {
        !self.shared.view.having(name).is_empty()
    }

    /// Whether this node has the output sealed with this length, after it was
    /// fetched if need be.
    pub(crate) async fn has_whole(&self, name: FileName, length: u64) -> Result<bool, FilesError> {
        self.ensure(name).await?;
        let stat = self.shared.files.stat(name).await?;
        Ok(stat.is_some_and(|stat| stat.sealed && stat.length == length))
    }

    /// Looks whether a sealed file still is what was recorded, after a reader found
    /// that it is not. If it is not and another member has it, it is fetched anew.
    /// Gives what to tell the reader.
    pub(crate) async fn repaired(
        &self,
        name: FileName,
        recorded: Digest,
        error: ApiError,
    ) -> ApiError {
        match self.repair(name, recorded).await {
            Ok(true) => ApiError {
                action: "it is fetched anew from another coordinator: try again".to_owned(),
                ..error
            },
            Ok(false) => error,
            Err(cause) => {
                warn!(file = %name, error = %cause, "cannot look at a damaged file");
                error
            }
        }
    }

    /// The like for content that was brought: whoever reads it can just ask again.
    pub(crate) async fn repaired_content(&self, digest: Digest, error: ApiError) -> ApiError {
        match self.repair(FileName::Upload { digest }, digest).await {
            Ok(true) => ApiError::new(
                Reason::ContentDamaged,
                error.message,
                "try again: it is fetched anew from another coordinator",
            ),
            Ok(false) => error,
            Err(cause) => {
                warn!(%digest, error = %cause, "cannot look at damaged content");
                error
            }
        }
    }

    /// Whether a copy was thrown away.
    async fn repair(&self, name: FileName, recorded: Digest) -> Result<bool, FilesError> {
        let Shared { files, view, urgent, .. } = &*self.shared;
        let others = view.having(name);
        if others.iter().all(|(_, has)| has.sealed != Some(recorded))
            || files.is_intact(name, recorded).await?
        {
            return Ok(false);
        }
        warn!(file = %name, "the copy here is damaged; fetching it anew");
        files.remove(name).await?;
        urgent.put([name]);
        Ok(true)
    }

    /// Keeps an archive of so many bytes on a majority of the voters for a job that
    /// is about to come; false when there is none to be had.
    ///
    /// # Errors
    /// Those of the store, and when the others do not answer in time.
    pub(crate) async fn keep_source(&self, digest: Digest, size: u64) -> Result<bool, ApiError> {
        let name = FileName::Upload { digest };
        self.discard_unless(digest, size).await?;
        if !self.has_whole(name, size).await? {
            return Ok(false);
        }
        self.renew_source(digest).await?;
        let Shared { view, clock, .. } = &*self.shared;
        let kept = self.agreed(name, |standing| view.is_kept(standing, name, digest, clock.now()));
        timeout(PATIENCE, kept).await.map_err(|_| {
            ApiError::new(
                Reason::NoLeader,
                format!("archive {digest} is not on a majority of the coordinators yet"),
                "send the request again, with the same idempotency key",
            )
        })?;
        Ok(true)
    }

    /// Whether this node has an upload, after it was fetched if another has it. If so, it
    /// is noted that it is wanted now.
    pub(crate) async fn renew_if_here(&self, digest: Digest) -> Result<bool, FilesError> {
        let name = FileName::Upload { digest };
        let is_here = async || {
            let held = self.shared.files.holds(name).await?;
            Ok::<_, FilesError>(held.is_some_and(|held| held.sealed.is_some()))
        };
        if !is_here().await? {
            if !self.is_elsewhere(name) {
                return Ok(false);
            }
            self.ensure(name).await?;
            if !is_here().await? {
                return Ok(false);
            }
        }
        self.renew_source(digest).await?;
        Ok(true)
    }

    /// Removes an upload that has not this length because it is damaged.
    pub(crate) async fn discard_unless(
        &self,
        digest: Digest,
        length: u64,
    ) -> Result<(), FilesError> {
        let stat = self.shared.files.stat(FileName::Upload { digest }).await?;
        if stat.is_some_and(|stat| stat.sealed && stat.length != length) {
            self.discard_damaged(digest).await?;
        }
        Ok(())
    }

    /// Removes an upload whose bytes are not those that its name says: it is of no use to
    /// anybody, and can be brought again then. Reads all of it.
    pub(crate) async fn discard_damaged(&self, digest: Digest) -> Result<(), FilesError> {
        let (name, files) = (FileName::Upload { digest }, &self.shared.files);
        match files.is_intact(name, digest).await {
            Ok(true) | Err(FilesError::NotFound(_)) => {}
            Ok(false) => {
                warn!(file = %name, "the copy here is damaged; removing it");
                files.remove(name).await?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Notes that an archive is wanted now, for every node to see, unless it was
    /// noted lately.
    pub(crate) async fn renew_source(&self, digest: Digest) -> Result<(), FilesError> {
        let name = FileName::Upload { digest };
        let held = self.shared.files.holds(name).await?;
        let now = self.shared.clock.now();
        match held {
            Some(held) if held.sealed.is_some() && !wanted::is_fresh(held.modified, now) => {
                self.shared.files.renew(name, wanted::from_millis(now.0)).await
            }
            _ => Ok(()),
        }
    }
}

/// What replication needs to know of the node's place in the cluster, told only
/// when it changes.
fn follow_standing(
    raft: &RaftHandle,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> sync::watch::Receiver<Standing> {
    let mut status = raft.status();
    let (sender, standing) = sync::watch::channel(Standing::of(&status.borrow_and_update()));
    let stop = stop.clone();
    tasks.spawn(stop.run_until_cancelled_owned(async move {
        while status.changed().await.is_ok() {
            let now = Standing::of(&status.borrow_and_update());
            sender.send_if_modified(|standing| {
                let changed = *standing != now;
                *standing = now;
                changed
            });
        }
    }));
    standing
}
