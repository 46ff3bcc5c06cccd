//! The attempts this runner holds: one task each, from the assignment until the
//! coordinator has recorded the outcome. They go on whether there is a session
//! or not; what a session must know of them is kept here.

mod artifacts;
mod attempt;
mod caching;
mod env;
mod epilogue;
mod journal;
mod keeping;
mod outcome;
mod output;
mod prepare;
mod remove;
mod tree;
mod unreadable;

use std::{
    collections::BTreeMap,
    io,
    ops::Deref,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use baton_proto::v1::{self, session_request::Item};
use tokio::sync::{mpsc, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use self::{attempt::Attempt, journal::Journal};
use crate::{
    Blocking, Config, Environment, Error, Link, caches::Caches, content::ContentStore, environment,
    executor::Executors, health::Health,
};

/// All attempts of this runner. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Attempts(Arc<Shared>);

struct Shared {
    surroundings: Surroundings,
    held: Mutex<BTreeMap<u64, Held>>,
    /// How many they are.
    count: watch::Sender<usize>,
}

/// What the attempts have of the rest of the runner.
pub(crate) struct Surroundings {
    pub(crate) config: Config,
    pub(crate) environment: Environment,
    pub(crate) executors: Executors,
    /// Chunks of trees.
    pub(crate) contents: ContentStore,
    pub(crate) runner_id: String,
    pub(crate) health: Health,
    pub(crate) caches: Caches,
    /// The connection to the leader, while there is one.
    pub(crate) link: watch::Receiver<Option<Arc<dyn Link>>>,
    /// What the session sends next. It is repeated after a reconnect, from what is held.
    pub(crate) reports: mpsc::UnboundedSender<v1::SessionRequest>,
    pub(crate) tasks: TaskTracker,
    pub(crate) stop: CancellationToken,
}

impl Deref for Shared {
    type Target = Surroundings;

    fn deref(&self) -> &Surroundings {
        &self.surroundings
    }
}

/// What is known of one attempt outside of its task.
struct Held {
    job_id: String,
    orders: watch::Sender<Orders>,
    started: Option<v1::Started>,
    finished: Option<v1::Finished>,
}

/// What the coordinator wants of an attempt: the whole of it, not the changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Orders {
    stop: Option<Stop>,
    /// When the lease was last renewed, by the boot-time clock; none while that
    /// is not known, after a restart.
    renewed: Option<Duration>,
    /// How long a lease is good for without being renewed.
    lease_limit: Option<Duration>,
    /// The outcome is recorded.
    settled: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stop {
    Cancelled,
    /// Nothing that is reported counts any more.
    LeaseLost,
}

impl Attempts {
    pub(crate) fn new(surroundings: Surroundings) -> Self {
        let (held, count) = (Mutex::default(), watch::Sender::new(0));
        Self(Arc::new(Shared { surroundings, held, count }))
    }

    /// Takes up the attempts that an earlier process of this runner left.
    pub(crate) async fn recover(&self) -> Result<(), Error> {
        let root = self.root();
        let failed = |source| Error::DataDir { dir: root.clone(), source };
        if let Err(error) = remove::empty_trash(self.threads(), &self.trash()).await {
            warn!(%error, trash = %self.trash().display(), "something stays in the trash");
        }
        for journal in Journal::all(&root, &self.0.environment.blocking).await.map_err(failed)? {
            match journal.assignment().await {
                Ok(assign) => {
                    info!(job = assign.job_id, lease = assign.lease, "taking up an attempt again");
                    self.spawn(assign, journal, attempt::Origin::Recovered);
                }
                Err(error) => {
                    warn!(%error, dir = %journal.dir().path().display(), "ending an attempt");
                    self.end_unreadable(journal);
                }
            }
        }
        Ok(())
    }

    /// Starts what the coordinator assigns; an attempt that is held already goes on.
    pub(crate) fn assign(&self, assign: v1::Assign, renewed: Duration, lease_limit: Duration) {
        if self.lock().contains_key(&assign.lease) {
            return;
        }
        info!(job = assign.job_id, lease = assign.lease, attempt = assign.attempt, "job assigned");
        let threads = Arc::clone(&self.0.environment.blocking);
        let journal = Journal::new(&self.root(), &assign, threads);
        let lease = assign.lease;
        self.spawn(assign, journal, attempt::Origin::Fresh);
        self.order(lease, |orders| {
            orders.renewed = Some(renewed);
            orders.lease_limit = Some(lease_limit);
        });
    }

    /// Has the executors remove what belongs to none of the attempts, at once and then
    /// every so often.
    pub(crate) async fn keep_sweeping(&self, every: Duration) {
        loop {
            let is_held = |lease| self.lock().contains_key(&lease);
            self.0.executors.sweep(&self.0.runner_id, &is_held).await;
            tokio::time::sleep(every).await;
        }
    }

    /// The coordinator wants this attempt stopped.
    pub(crate) fn stop(&self, stop: &v1::Stop) {
        let stop_order = match stop.reason() {
            v1::StopReason::LeaseLost => Stop::LeaseLost,
            // Why it is stopped does not matter here: the coordinator knows.
            v1::StopReason::Cancelled | v1::StopReason::Recalled | v1::StopReason::Unspecified => {
                Stop::Cancelled
            }
        };
        self.order(stop.lease, |orders| orders.stop = orders.stop.max(Some(stop_order)));
    }

    /// The outcome of this attempt is recorded.
    pub(crate) fn settled(&self, lease: u64) {
        self.order(lease, |orders| orders.settled = true);
    }

    /// The coordinator has renewed these leases as of `renewed`.
    pub(crate) fn renewed(&self, leases: &[u64], renewed: Duration, lease_limit: Duration) {
        for lease in leases {
            self.order(*lease, |orders| {
                orders.renewed = orders.renewed.max(Some(renewed));
                orders.lease_limit = Some(lease_limit);
            });
        }
    }

    /// The leases this runner holds.
    pub(crate) fn held(&self) -> Vec<v1::HeldLease> {
        let held = self.lock();
        held.iter()
            .map(|(lease, held)| v1::HeldLease { job_id: held.job_id.clone(), lease: *lease })
            .collect()
    }

    /// Returns when it holds none.
    pub(crate) async fn until_none(&self) {
        // The sender is here: it cannot fail.
        let _ = self.0.count.subscribe().wait_for(|count| *count == 0).await;
    }

    /// Everything that the coordinator may not know yet.
    pub(crate) fn reports(&self) -> Vec<v1::SessionRequest> {
        let held = self.lock();
        let items = held.values().filter_map(|held| match (&held.started, &held.finished) {
            (_, Some(finished)) => Some(Item::Finished(finished.clone())),
            (Some(started), None) => Some(Item::Started(started.clone())),
            (None, None) => None,
        });
        items.map(|item| v1::SessionRequest { item: Some(item) }).collect()
    }

    /// Ends what may run of an attempt that nothing more is known of. Its lease
    /// counts as held until nothing of it is left.
    fn end_unreadable(&self, journal: Journal) {
        let (job_id, lease) = journal.names().unwrap_or_default();
        let (orders, _) = watch::channel(Orders::default());
        let held = Held { job_id, orders, started: None, finished: None };
        self.hold(lease, held);
        let attempts = self.clone();
        self.0.tasks.spawn(async move {
            let ending = unreadable::end(&attempts, &journal);
            if attempts.0.stop.run_until_cancelled(ending).await.is_some() {
                attempts.release(lease);
            }
        });
    }

    fn spawn(&self, assign: v1::Assign, journal: Journal, origin: attempt::Origin) {
        let (orders, receiver) = watch::channel(Orders::default());
        let held = Held { job_id: assign.job_id.clone(), orders, started: None, finished: None };
        let lease = assign.lease;
        self.hold(lease, held);
        let attempt = Attempt::new(self.clone(), assign, journal, receiver);
        let attempts = self.clone();
        self.0.tasks.spawn(async move {
            tokio::select! {
                biased;
                // The process goes on without this runner.
                () = attempts.0.stop.cancelled() => {}
                () = attempt.run(origin) => {
                    attempts.release(lease);
                }
            }
        });
    }

    fn hold(&self, lease: u64, attempt: Held) {
        let mut held = self.lock();
        held.insert(lease, attempt);
        self.0.count.send_replace(held.len());
    }

    fn release(&self, lease: u64) {
        let mut held = self.lock();
        held.remove(&lease);
        self.0.count.send_replace(held.len());
    }

    fn order(&self, lease: u64, change: impl FnOnce(&mut Orders)) {
        if let Some(held) = self.lock().get(&lease) {
            held.orders.send_if_modified(|orders| {
                let before = *orders;
                change(orders);
                *orders != before
            });
        }
    }

    fn report_started(&self, started: v1::Started) {
        if let Some(held) = self.lock().get_mut(&started.lease) {
            held.started = Some(started.clone());
        }
        self.report(Item::Started(started));
    }

    fn report_finished(&self, finished: v1::Finished) {
        if let Some(held) = self.lock().get_mut(&finished.lease) {
            held.finished = Some(finished.clone());
        }
        self.report(Item::Finished(finished));
    }

    fn report(&self, item: Item) {
        // Nobody receives once the runner is stopping.
        let _ = self.0.reports.send(v1::SessionRequest { item: Some(item) });
    }

    fn threads(&self) -> &dyn Blocking {
        &*self.0.environment.blocking
    }

    fn root(&self) -> PathBuf {
        self.0.config.data_dir.join("attempts")
    }

    fn trash(&self) -> PathBuf {
        self.0.config.data_dir.join("trash")
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Held>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what waits for the disk where that does no harm.
async fn blocking<T: Send + 'static>(
    threads: &dyn Blocking,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    environment::blocking(threads, work).await.map_err(io::Error::other)?
}
