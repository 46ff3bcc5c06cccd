//! Moves the node: drains what waits into one batch and keeps Raft's clock. On a
//! thread of its own that ends with the node, or by somebody's hand.

use std::{
    any::Any,
    io, iter,
    panic::{self, AssertUnwindSafe},
    sync::{
        Arc, RwLock,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use baton_state::State;
use tokio::{sync::watch, time::Instant};
use tracing::{error, info};

use super::{
    Options, RaftError,
    handle::{Input, RaftHandle, Status},
    node::Node,
    snapshots::Snapshots,
    store::Store,
};

/// The time between two ticks of Raft's clock.
pub const TICK: Duration = Duration::from_millis(50);
/// Inputs taken into one batch.
const BATCH: usize = 1024;

/// A node, and what waits for it.
pub struct Driver {
    node: Node,
    inputs: mpsc::Receiver<Input>,
}

impl Driver {
    /// A node that has applied what its log has.
    pub(super) fn begin(
        options: Options,
        store: Store,
        snapshots: Snapshots,
        state: State,
    ) -> Result<(RaftHandle, Self), RaftError> {
        let (input, inputs) = mpsc::channel();
        let state = Arc::new(RwLock::new(state));
        let (status_sender, status) = watch::channel(Status::default());
        let handle = RaftHandle::new(input.clone(), Arc::clone(&state), status);
        let mut node = Node::new(options, store, snapshots, state, input, status_sender)?;
        node.begin()?;
        Ok((handle, Self { node, inputs }))
    }

    /// Takes what waits by now, lets a tick pass or not, and does all that follows.
    /// False when the node was asked to stop.
    ///
    /// # Errors
    /// [`RaftError`]: the node cannot go on, and everybody was told.
    pub fn turn(&mut self, ticks: bool) -> Result<bool, RaftError> {
        let turned = self.take(None, ticks);
        if let Err(failure) = &turned {
            self.fail(failure);
        }
        turned
    }

    pub(super) fn spawn(self) -> io::Result<()> {
        thread::Builder::new().name("raft".to_owned()).spawn(move || self.run())?;
        Ok(())
    }

    fn run(mut self) {
        // raft-rs and raft-engine panic at some failures of a disk. Nothing of the node is used
        // after that, except to say so.
        let work = || self.serve().and_then(|()| self.node.raw.mut_store().close());
        let ended = panic::catch_unwind(AssertUnwindSafe(work));
        match ended.unwrap_or_else(|panic| Err(panicked(&*panic))) {
            Ok(()) => info!("raft node stopped"),
            Err(failure) => self.fail(&failure),
        }
        let Self { node, inputs } = self;
        // Nobody waits for an answer any more while the snapshot is written.
        drop(inputs);
        drop(node.callers);
        if let Some(task) = node.snapshotting
            && let Err(error) = node.options.runtime.block_on(task)
            && error.is_panic()
        {
            error!("the task that writes a snapshot panicked");
        }
    }

    fn fail(&self, failure: &RaftError) {
        error!(%failure, "raft node failed and has stopped");
        self.node.publish_status(Some(failure.to_string()));
    }

    fn serve(&mut self) -> Result<(), RaftError> {
        let mut next_tick = Instant::now() + TICK;
        loop {
            let wait = next_tick.saturating_duration_since(Instant::now());
            let first = match self.inputs.recv_timeout(wait) {
                Ok(input) => Some(input),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            };
            let ticks = Instant::now() >= next_tick;
            if !self.take(first, ticks)? {
                return Ok(());
            }
            if ticks {
                next_tick = Instant::now() + TICK;
            }
        }
    }

    fn take(&mut self, first: Option<Input>, ticks: bool) -> Result<bool, RaftError> {
        let waiting = iter::once(first).flatten().chain(self.inputs.try_iter());
        for input in waiting.take(BATCH) {
            if !self.node.take(input)? {
                return Ok(false);
            }
        }
        if ticks {
            self.node.tick();
        }
        self.node.settle()?;
        Ok(true)
    }
}

fn panicked(panic: &(dyn Any + Send)) -> RaftError {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    RaftError::Panicked { detail: text.unwrap_or("a panic without a message").to_owned() }
}
