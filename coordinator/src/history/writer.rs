//! The one task that writes: gathers batches into transactions, keeps trying
//! while the disk is full, and carries out prunes and checkpoints in between.
//! Holds a bounded number of events; the rest waits with the senders.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use baton_state::{Event, Index, Timestamp};
use sqlx::{Connection as _, SqliteConnection};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;

use super::{
    Batch,
    error::Result,
    sql::{Database, checkpoint, copy, insert, prune},
};
use crate::environment::{Blocking, waited};

/// Events in one transaction, and in memory besides those in the queue.
const EVENTS: usize = 4_096;

/// A position without events is written this much later, to write it less often.
const IDLE: Duration = Duration::from_millis(500);

/// The wait after the first failed write; it doubles with each further one.
const BACKOFF: Duration = Duration::from_millis(100);

/// The longest wait between two tries.
const BACKOFF_LIMIT: Duration = Duration::from_secs(5);

/// Something to do besides taking events.
pub(super) enum Order {
    MakeDurable(oneshot::Sender<Result<Index>>),
    Prune {
        now: Timestamp,
        retention: prune::Retention,
        reply: oneshot::Sender<Result<Vec<prune::PrunedJob>>>,
    },
    Replace {
        copy: PathBuf,
        reply: oneshot::Sender<Result<Index>>,
    },
}

pub(super) struct Writer {
    database: Database,
    /// None after an error: then a new one starts from what the file says.
    connection: Option<SqliteConnection>,
    position: watch::Sender<Index>,
    health: watch::Sender<Option<String>>,
    /// How SQLite's threads are waited for.
    threads: Arc<dyn Blocking>,
    /// Events after the position, and the entry they reach.
    pending: Batch,
    /// When to write them.
    due: Option<Instant>,
    /// The wait after the next failure.
    backoff: Duration,
}

impl Writer {
    pub(super) fn new(
        database: Database,
        connection: SqliteConnection,
        position: watch::Sender<Index>,
        health: watch::Sender<Option<String>>,
        threads: Arc<dyn Blocking>,
    ) -> Self {
        let pending = Batch { through: *position.borrow(), events: Vec::new() };
        Self {
            database,
            connection: Some(connection),
            position,
            health,
            threads,
            pending,
            due: None,
            backoff: BACKOFF,
        }
    }

    /// Runs until `stop`, or until nobody can send any more.
    pub(super) async fn run(
        mut self,
        mut batches: mpsc::Receiver<Batch>,
        mut orders: mpsc::Receiver<Order>,
        stop: CancellationToken,
    ) {
        let threads = Arc::clone(&self.threads);
        loop {
            let due = self.due.unwrap_or_else(Instant::now);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(order) = orders.recv() => {
                    waited(&*threads, self.carry_out(order)).await;
                }
                () = sleep_until(due), if self.due.is_some() => {
                    waited(&*threads, self.write()).await;
                }
                batch = batches.recv(), if self.pending.events.len() < EVENTS => {
                    let Some(batch) = batch else { break };
                    self.gather(batch, &mut batches);
                }
            }
        }
        waited(&*threads, self.finish(batches)).await;
    }

    /// Takes a batch and those that wait behind it.
    fn gather(&mut self, first: Batch, batches: &mut mpsc::Receiver<Batch>) {
        self.take(first);
        while self.pending.events.len() < EVENTS
            && let Ok(batch) = batches.try_recv()
        {
            self.take(batch);
        }
        // After a failure the next try has its time already.
        if self.pending.through > *self.position.borrow() && !self.is_failing() {
            let delay = if self.pending.events.is_empty() { IDLE } else { Duration::ZERO };
            let due = Instant::now() + delay;
            self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
        }
    }

    fn take(&mut self, mut batch: Batch) {
        let taken = self.pending.through;
        batch.events.retain(|event| event.index > taken);
        let last = batch.events.last().map_or(0, |event| event.index);
        self.pending.through = taken.max(batch.through).max(last);
        self.pending.events.append(&mut batch.events);
    }

    fn is_failing(&self) -> bool {
        self.health.borrow().is_some()
    }

    /// Writes what is pending. On an error it stays pending, for another try later.
    async fn write(&mut self) {
        match self.try_write().await {
            Ok(()) => {
                self.due = None;
                self.backoff = BACKOFF;
                if self.health.send_replace(None).is_some() {
                    tracing::info!("the history can be written again");
                }
                // After the health: whoever waited for this position finds both.
                self.announce(self.pending.through);
            }
            Err(error) => {
                tracing::error!(%error, retry_in = ?self.backoff, "cannot write the history");
                self.health.send_replace(Some(error.to_string()));
                self.due = Some(Instant::now() + self.backoff);
                self.backoff = (self.backoff * 2).min(BACKOFF_LIMIT);
                self.disconnect().await;
            }
        }
    }

    async fn try_write(&mut self) -> Result<()> {
        self.connect().await?;
        let Some(connection) = &mut self.connection else { return Ok(()) };
        if self.pending.through > *self.position.borrow() {
            insert::batch(connection, &self.pending).await?;
            self.pending.events = Vec::new();
        }
        Ok(())
    }

    fn announce(&self, position: Index) {
        self.position.send_if_modified(|known| std::mem::replace(known, position) != position);
    }

    /// Connects again after an error. Whether the write that failed is in the
    /// file after all, only the file knows.
    async fn connect(&mut self) -> Result<()> {
        if self.connection.is_none() {
            let (connection, position) = self.database.prepare().await?;
            self.is_at(position);
            self.connection = Some(connection);
        }
        Ok(())
    }

    /// What comes up to this position is here already.
    fn is_at(&mut self, position: Index) {
        self.pending.events.retain(|event: &Event| event.index > position);
        self.pending.through = self.pending.through.max(position);
        self.announce(position);
    }

    async fn disconnect(&mut self) {
        if let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!(%error, "the history's connection did not close cleanly");
        }
    }

    async fn carry_out(&mut self, order: Order) {
        // Nobody waits for the answer any more: then it is not needed.
        match order {
            Order::MakeDurable(reply) => drop(reply.send(self.make_durable().await)),
            Order::Prune { now, retention, reply } => {
                drop(reply.send(self.prune(now, retention).await));
            }
            Order::Replace { copy, reply } => drop(reply.send(self.replace(&copy).await)),
        }
    }

    async fn make_durable(&mut self) -> Result<Index> {
        if !self.is_failing() {
            self.write().await;
        }
        self.connect().await?;
        if let Some(connection) = &mut self.connection {
            checkpoint(connection).await?;
        }
        Ok(*self.position.borrow())
    }

    async fn prune(
        &mut self,
        now: Timestamp,
        retention: prune::Retention,
    ) -> Result<Vec<prune::PrunedJob>> {
        self.connect().await?;
        let Some(connection) = &mut self.connection else { return Ok(Vec::new()) };
        let pruned = prune::prune(connection, now, retention).await;
        match &pruned {
            // There is room again.
            Ok(jobs) if !jobs.is_empty() && self.is_failing() => self.due = Some(Instant::now()),
            Ok(_) => {}
            Err(_) => self.disconnect().await,
        }
        pruned
    }

    async fn replace(&mut self, copy: &Path) -> Result<Index> {
        self.connect().await?;
        let Some(connection) = &mut self.connection else { return Ok(*self.position.borrow()) };
        let taken = copy::take_over(connection, copy).await;
        match &taken {
            Ok(position) => self.is_at(*position),
            Err(_) => self.disconnect().await,
        }
        taken
    }

    /// Writes what was sent before the stop, unless the disk refuses it.
    async fn finish(mut self, mut batches: mpsc::Receiver<Batch>) {
        batches.close();
        self.health.send_replace(None);
        while let Some(batch) = batches.recv().await {
            self.gather(batch, &mut batches);
            self.write().await;
            if self.is_failing() {
                break;
            }
        }
        if !self.is_failing() {
            self.write().await;
        }
        self.disconnect().await;
    }
}
