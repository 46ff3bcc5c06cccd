//! The heart of a coordinator: the Raft node with its state, and everything that works
//! on that by itself. It knows the world by traits only, has no socket, and asks the
//! system for nothing, so that the simulator runs it as it is.

use std::{io, path::PathBuf, sync::Arc};

use baton_state::{Index, NodeId};
use futures::{FutureExt as _, TryFutureExt as _, future::BoxFuture};
use tokio::runtime::Handle;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{
    disk::DiskGuard,
    dispatch::{Dispatch, DispatchObserver, Timing},
    environment::Environment,
    files::Files,
    history::{self, Feed, History},
    jobs::Jobs,
    leadership::Leadership,
    members::Members,
    queues::Rates,
    raft::{self, Beginning, HistoryStore, Observer, RaftHandle, Transport},
    replication::{self, Records, Replication},
    retention::{self, Retention},
    trees::Trees,
    uploads::Uploads,
    watchers::Watchers,
};

/// Folder of the Raft node.
pub(crate) const RAFT: &str = "raft";

/// What works by itself, and what callers are served with.
#[derive(Clone)]
pub(crate) struct Core {
    pub(crate) raft: RaftHandle,
    pub(crate) members: Members,
    pub(crate) jobs: Jobs,
    pub(crate) dispatch: Dispatch,
    pub(crate) leadership: Leadership,
}

/// What a core is put together from.
pub(crate) struct CoreParts {
    pub(crate) node: NodeId,
    /// What to make of an empty log.
    pub(crate) beginning: Beginning,
    /// Of this coordinator; the Raft node's folder is in it.
    pub(crate) data_dir: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) history: History,
    pub(crate) files: Files,
    /// The other members, for what replication asks them.
    pub(crate) others: Arc<dyn replication::Members>,
    /// The way to the other members, for Raft.
    pub(crate) transport: Arc<dyn Transport>,
    /// Told of every entry before the core's own.
    pub(crate) observers: Vec<Arc<dyn Observer>>,
    pub(crate) environment: Environment,
    /// Where its tasks run.
    pub(crate) tasks: TaskTracker,
    /// Ends them.
    pub(crate) stop: CancellationToken,
}

/// What people set.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) timing: Timing,
    pub(crate) retention: Retention,
    pub(crate) min_free_bytes: u64,
    pub(crate) snapshot_every: u64,
}

impl Core {
    /// Starts everything; `start` starts the Raft node.
    pub(crate) async fn start<E>(
        parts: CoreParts,
        start: impl AsyncFnOnce(raft::Options) -> Result<RaftHandle, E>,
    ) -> Result<Self, E> {
        let CoreParts { settings, history, files, environment, tasks, stop, .. } = parts;
        let (watchers, rates) = (Arc::new(Watchers::default()), Arc::new(Rates::default()));
        let observer = DispatchObserver::new(settings.timing, environment.clone());
        let mut observers = parts.observers;
        observers.push(Arc::new(Feed::start(history.sender())));
        observers.push(Arc::new(observer.clone()));
        observers.push(Arc::clone(&watchers) as _);
        observers.push(Arc::clone(&rates) as _);
        let raft = start(raft::Options {
            node_id: parts.node.0,
            dir: parts.data_dir.join(RAFT),
            snapshot_every: settings.snapshot_every,
            beginning: parts.beginning,
            history: Some(Arc::new(Beside { history: history.clone(), stop: stop.clone() })),
            observers,
            transport: parts.transport,
            environment: environment.clone(),
            runtime: Handle::current(),
        })
        .await?;
        let members = Members { raft: raft.clone(), environment: environment.clone() };
        tasks.spawn(members.clone().promote(stop.clone()));
        let trees = Trees::default();
        let records = Records {
            raft: raft.clone(),
            history: history.clone(),
            files: files.clone(),
            trees: trees.clone(),
            clock: Arc::clone(&environment.clock),
        };
        let replication =
            Replication::start(files.clone(), parts.others, &raft, records, &tasks, &stop);
        let jobs = Jobs {
            raft: raft.clone(),
            history,
            files,
            replication,
            uploads: Uploads::default(),
            trees,
            disk: DiskGuard::new(parts.data_dir, settings.min_free_bytes),
            watchers,
            rates,
            environment,
        };
        let contents = jobs.contents();
        tasks.spawn(retention::evict(jobs.clone(), stop.clone()));
        tasks.spawn(retention::prune(jobs.clone(), settings.retention, stop.clone()));
        let leadership = Leadership::follow(raft.clone(), &tasks, stop.clone());
        let follow = leadership.clone();
        let dispatch = Dispatch::start(&observer, raft.clone(), contents, follow, &tasks, stop);
        Ok(Self { raft, members, jobs, dispatch, leadership })
    }
}

/// The history, as the Raft node sees it.
struct Beside {
    history: History,
    stop: CancellationToken,
}

impl HistoryStore for Beside {
    fn position(&self) -> Index {
        *self.history.position().borrow()
    }

    fn secure(&self, through: Index) -> BoxFuture<'_, io::Result<()>> {
        let secured = in_history(&self.history, through, &self.stop);
        secured.map_err(io::Error::other).boxed()
    }

    fn replace(&self, copy: PathBuf) -> BoxFuture<'_, io::Result<Index>> {
        async move { self.history.replace_with(copy).await.map_err(io::Error::other) }.boxed()
    }
}

/// Waits until the history has everything up to `index` on disk, or for the stop.
async fn in_history(
    history: &History,
    index: Index,
    stop: &CancellationToken,
) -> Result<(), history::Error> {
    let mut position = history.position();
    while history.make_durable().await? < index {
        tokio::select! {
            biased;
            reached = position.wait_for(|position| *position >= index) => {
                reached.map_err(|_| history::Error::Stopped)?;
            }
            () = stop.cancelled() => return Err(history::Error::Stopped),
        }
    }
    Ok(())
}
