//! Finished work, in SQL: events of the state machine go in, lists and searches
//! come out, and what is here may leave the state. Never decides anything about
//! a job, and never holds one that has not ended.
//!
//! Every event is taken exactly once: the Raft index up to which events were
//! taken is stored with their rows in one transaction, and events at or before
//! it are ignored when the log is replayed.

mod damage;
mod error;
mod event_filter;
mod feed;
mod filter;
mod sql;
#[cfg(test)]
mod tests;
mod writer;

use std::{path::Path, sync::Arc};

use baton_state::{Event, Index, Job, JobId, Timestamp};
use sqlx::SqlitePool;
use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub(crate) use self::feed::Feed;
use self::{
    damage::Damage,
    sql::{Database, copy, events, select, shift},
    writer::{Order, Writer},
};
pub use self::{
    error::{Error, Result},
    event_filter::{EventFilter, EventId, Subject},
    filter::{JobFilter, JobState, Matcher},
    sql::{
        events::Recorded,
        prune::{PrunedJob, Retention},
        select::Listed,
    },
};
use crate::environment::{Blocking, SystemThreads, waited};

/// Statements that read at the same time.
pub(crate) const READERS: u32 = 4;

/// Batches that may wait for the writer before a sender has to wait.
const QUEUE: usize = 64;

/// The events of some entries of the log, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The last entry that was applied: all events up to it are here or were sent before.
    pub through: Index,
    /// What happened; may be empty.
    pub events: Vec<Event>,
}

/// The history of one coordinator. Clones share it.
#[derive(Clone)]
pub struct History {
    shared: Arc<Shared>,
}

struct Shared {
    readers: SqlitePool,
    batches: Sender,
    orders: mpsc::Sender<Order>,
    position: watch::Receiver<Index>,
    health: watch::Receiver<Option<String>>,
    damage: Damage,
    stop: CancellationToken,
    threads: Arc<dyn Blocking>,
    /// The writer, and the look for damage; they end with this struct even if nobody stops it.
    tasks: Mutex<JoinSet<()>>,
}

/// Takes batches of events to the history.
#[derive(Clone, Debug)]
pub struct Sender(mpsc::Sender<Batch>);

impl Sender {
    /// Hands over a batch; waits while too many others do.
    ///
    /// # Errors
    /// [`Error::Stopped`], also when that happens during the wait. The log still
    /// has these events for the next start.
    pub async fn send(&self, batch: Batch) -> Result<()> {
        self.0.send(batch).await.map_err(|_| Error::Stopped)
    }
}

/// Makes a copy that ends at the entry `from` the history of a node whose log begins
/// after `to`.
///
/// # Errors
/// When the copy is damaged, of a newer version, or ends elsewhere.
pub(crate) async fn adopt(path: &Path, from: Index, to: Index) -> Result<()> {
    shift::adopt(&Database::new(path), path, from, to).await
}

impl History {
    /// Opens the history in the file `path`, makes it if there is none, and brings
    /// its tables up to date.
    ///
    /// # Errors
    /// When the file is damaged, of a newer version, or cannot be opened; the
    /// message names the file and says what to do.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, Arc::new(SystemThreads), READERS).await
    }

    /// As [`History::open`], where SQLite's threads are waited for in another way, and
    /// `readers` statements may read at once.
    ///
    /// # Errors
    /// As [`History::open`].
    pub async fn open_with(
        path: impl AsRef<Path>,
        threads: Arc<dyn Blocking>,
        readers: u32,
    ) -> Result<Self> {
        Self::start(Database::new(path.as_ref()), threads, readers).await
    }

    async fn start(database: Database, threads: Arc<dyn Blocking>, readers: u32) -> Result<Self> {
        let prepared = waited(&*threads, async {
            database.check().await?;
            database.prepare().await
        });
        let (connection, position) = prepared.await?;
        let readers = database.readers(readers);
        let (batches, batch_queue) = mpsc::channel(QUEUE);
        let (orders, order_queue) = mpsc::channel(1);
        let (position_sender, position) = watch::channel(position);
        let (health_sender, health) = watch::channel(None);
        let stop = CancellationToken::new();
        let written_by = Arc::clone(&threads);
        let damage = Damage::default();
        let writer = Writer::new(database, connection, position_sender, health_sender, written_by);
        let mut tasks = JoinSet::new();
        tasks.spawn(writer.run(batch_queue, order_queue, stop.clone()));
        let looking = damage.clone().look(readers.clone(), Arc::clone(&threads));
        let ended = stop.clone();
        tasks.spawn(async move {
            ended.run_until_cancelled(looking).await;
        });
        let shared = Shared {
            readers,
            batches: Sender(batches),
            orders,
            position,
            health,
            damage,
            stop,
            threads,
            tasks: Mutex::new(tasks),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// Where batches of events go in.
    #[must_use]
    pub fn sender(&self) -> Sender {
        self.shared.batches.clone()
    }

    /// The Raft index up to which all events are here. It survives the end of the
    /// process, but see [`History::make_durable`].
    #[must_use]
    pub fn position(&self) -> watch::Receiver<Index> {
        self.shared.position.clone()
    }

    /// The last error, while the history cannot be written. It tries again by itself.
    #[must_use]
    pub fn health(&self) -> Option<String> {
        self.shared.health.borrow().clone()
    }

    /// What is known of rows here that are not what was written, and what to do about it;
    /// none while there are none. Known until
    /// this process ends.
    #[must_use]
    pub fn damage(&self) -> Option<String> {
        self.shared.damage.problem()
    }

    /// Puts everything that was taken on disk and gives the position that is safe
    /// from a loss of power: the log is no longer needed up to there.
    ///
    /// # Errors
    /// When the database cannot be written, or a reader keeps it from being put
    /// into its main file: try again later.
    pub async fn make_durable(&self) -> Result<Index> {
        self.order(Order::MakeDurable).await
    }

    /// Removes a bounded number of the oldest finished jobs that `retention` no
    /// longer covers, and gives them back so that their files can be removed too.
    /// Call it again while it gives some.
    ///
    /// # Errors
    /// When the database cannot be read or written; then nothing was removed.
    pub async fn prune(&self, now: Timestamp, retention: Retention) -> Result<Vec<PrunedJob>> {
        let pruned = self.order(|reply| Order::Prune { now, retention, reply }).await;
        self.shared.damage.noted(pruned)
    }

    /// Writes a copy of everything to the file `path`, on disk when this returns, and
    /// gives its position: at least the one at the call. Takes a while for a large
    /// history; new events are stored meanwhile, but [`History::make_durable`] fails.
    ///
    /// # Errors
    /// When the copy cannot be written, or a row is damaged; then there is none.
    pub async fn copy_to(&self, path: impl AsRef<Path>) -> Result<Index> {
        if self.shared.stop.is_cancelled() {
            return Err(Error::Stopped);
        }
        let from = self.shared.readers.connect_options();
        self.noted(copy::write(&from, path.as_ref())).await
    }

    /// Writes a copy as [`History::copy_to`] does, of what happened up to the entry
    /// `through`, for which it waits, and nothing later.
    ///
    /// # Errors
    /// As [`History::copy_to`].
    pub(crate) async fn copy_as_of(&self, path: &Path, through: Index) -> Result<()> {
        let mut position = self.position();
        let reached = position.wait_for(|position| *position >= through).await;
        reached.map_err(|_| Error::Stopped)?;
        self.copy_to(path).await?;
        self.waited(shift::cut(path, through)).await
    }

    /// Puts the copy of another member's history in place of everything here, unless
    /// that is as new as the copy. Gives the position, on disk when this returns;
    /// events up to it that come later are ignored. Readers see the old or the new.
    ///
    /// # Errors
    /// When the copy is damaged or of another version, or the database cannot be
    /// written: everything stays as it was, or is replaced already.
    pub async fn replace_with(&self, path: impl AsRef<Path>) -> Result<Index> {
        let copy = path.as_ref().to_owned();
        self.waited(copy::check(&copy)).await?;
        self.order(|reply| Order::Replace { copy, reply }).await
    }

    async fn waited<T: Send>(&self, work: impl Future<Output = T> + Send) -> T {
        waited(&*self.shared.threads, work).await
    }

    /// Waits as [`History::waited`] does, and takes note of a damaged row.
    async fn noted<T: Send>(&self, work: impl Future<Output = Result<T>> + Send) -> Result<T> {
        self.shared.damage.noted(self.waited(work).await)
    }

    async fn order<T>(&self, order: impl FnOnce(oneshot::Sender<Result<T>>) -> Order) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        self.shared.orders.send(order(reply)).await.map_err(|_| Error::Stopped)?;
        answer.await.map_err(|_| Error::Stopped)?
    }

    /// Writes what has been sent and closes the database. Events that could not
    /// be written are still in the log. Later calls give [`Error::Stopped`] or
    /// another error.
    pub async fn stop(&self) {
        // First: whoever closes the file last puts all of it into the main file.
        self.waited(self.shared.readers.close()).await;
        self.shared.stop.cancel();
        while self.shared.tasks.lock().await.join_next().await.is_some() {}
    }

    /// One finished job.
    ///
    /// # Errors
    /// When the database cannot be read, or the job's record is damaged.
    pub async fn job(&self, id: JobId) -> Result<Option<Job>> {
        self.noted(select::job(&self.shared.readers, id)).await
    }

    /// Whether a job is here.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn contains(&self, id: JobId) -> Result<bool> {
        self.waited(select::contains(&self.shared.readers, id)).await
    }

    /// At most `limit` finished jobs that match, the newest first, all of them
    /// older than `before`: the last job of a page, or [`JobId::MAX`] for the first one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn list(&self, filter: &JobFilter, before: JobId, limit: u32) -> Result<Listed> {
        let listed = self.waited(select::list(&self.shared.readers, filter, before, limit)).await?;
        listed.unreadable.iter().for_each(|id| self.shared.damage.note(&format!("job {id}")));
        Ok(listed)
    }

    /// At most `limit` events that match, the newest first, all of them from before `before`:
    /// the last event of a page, or [`EventId::MAX`] for the first one.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn events(
        &self,
        filter: &EventFilter,
        before: EventId,
        limit: u32,
    ) -> Result<Vec<Recorded>> {
        let listed = events::list(&self.shared.readers, filter, before, limit);
        let listed = self.waited(listed).await?;
        for recorded in &listed {
            if let Recorded::Damaged { id } = recorded {
                self.shared.damage.note(&format!("an event of entry {}", id.entry));
            }
        }
        Ok(listed)
    }

    /// How many finished jobs have used up their attempts, counted up to `most`.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub(crate) async fn dead_letters(&self, most: u32) -> Result<u64> {
        self.waited(select::dead_letters(&self.shared.readers, most)).await
    }

    /// The digest of the request that took this idempotency key, and its job.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn request(&self, key: &str) -> Result<Option<([u8; 32], JobId)>> {
        self.noted(select::request(&self.shared.readers, key)).await
    }

    /// The digests of the manifests of all trees that jobs here were submitted with, or left.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn trees(&self) -> Result<Vec<String>> {
        self.waited(select::trees(&self.shared.readers)).await
    }

    /// Whether any job here was submitted with this archive, or the tree of this manifest, or
    /// left that.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn source_in_use(&self, digest: &str) -> Result<bool> {
        self.waited(select::source_in_use(&self.shared.readers, digest)).await
    }
}
