//! The node's thread: drains what waits into one batch, keeps Raft's clock, and
//! ends with the node.

use std::{
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
const TICK: Duration = Duration::from_millis(50);
/// Inputs taken into one batch.
const BATCH: usize = 1024;

/// Starts the node's thread; what the log has is applied when this returns.
pub(super) fn spawn(
    options: Options,
    store: Store,
    snapshots: Snapshots,
    state: State,
) -> Result<RaftHandle, RaftError> {
    let dir = options.dir.clone();
    let (input, inputs) = mpsc::channel();
    let state = Arc::new(RwLock::new(state));
    let (status_sender, status) = watch::channel(Status::default());
    let handle = RaftHandle::new(input.clone(), Arc::clone(&state), status);
    let mut node = Node::new(options, store, snapshots, state, input, status_sender)?;
    node.begin()?;
    thread::Builder::new()
        .name("raft".to_owned())
        .spawn(move || run(node, inputs))
        .map_err(|source| RaftError::Setup { dir, source })?;
    Ok(handle)
}

fn run(mut node: Node, inputs: mpsc::Receiver<Input>) {
    match serve(&mut node, &inputs).and_then(|()| node.raw.mut_store().close()) {
        Ok(()) => info!("raft node stopped"),
        Err(failure) => {
            error!(%failure, "raft node failed and has stopped");
            node.publish_status(Some(failure.to_string()));
        }
    }
    // Nobody waits for an answer any more while the snapshot is written.
    drop(inputs);
    drop(node.callers);
    if let Some(thread) = node.snapshotting
        && thread.join().is_err()
    {
        error!("the snapshot thread panicked");
    }
}

fn serve(node: &mut Node, inputs: &mpsc::Receiver<Input>) -> Result<(), RaftError> {
    let mut next_tick = Instant::now() + TICK;
    loop {
        let wait = next_tick.saturating_duration_since(Instant::now());
        match inputs.recv_timeout(wait) {
            Ok(input) => {
                let batch = std::iter::once(input).chain(inputs.try_iter()).take(BATCH);
                for input in batch {
                    if !node.take(input)? {
                        return Ok(());
                    }
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(()),
        }
        if Instant::now() >= next_tick {
            node.tick();
            next_tick = Instant::now() + TICK;
        }
        node.settle()?;
    }
}
