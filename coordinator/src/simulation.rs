//! A coordinator without sockets and threads, for the simulator in `sim/`: the same
//! core as in a real one, over a disk, a network and clocks of the simulator's. Nothing
//! in here works any differently from how it works elsewhere.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use baton_proto::{DEFAULT_PROJECT, error::ApiError, peer, v1};
use baton_state::{Job, JobId, Lease, Member, NodeId, QueueName, Requirements};
use futures::{Stream, StreamExt as _, stream::BoxStream};
use tokio::sync::mpsc;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use crate::replication::{Answers, Members, NotGiven};
use crate::{
    Error, Retention, Timing,
    convert::spec_from_proto,
    coordinator::{FILES_DIR, HISTORY_FILE},
    core::{Core, CoreParts, Settings},
    environment::Environment,
    files::{Disk, FileName, Files, FilesOptions},
    grpc::{LogStore, send_log},
    history::History,
    jobs::Caller,
    raft::{self, Beginning, Driver, Observer, RaftHandle, Transport, engine::Engine},
    replication,
};

/// Statements that read the history at once. More than ever do: what would wait for one
/// of them to end would wait for ever, since nothing else goes on meanwhile.
const READERS: u32 = 256;

/// What a simulated coordinator is put together from.
pub struct Setup {
    /// Its number.
    pub node: NodeId,
    /// What to make of an empty log.
    pub beginning: Beginning,
    /// Snapshots, history and stored files are in here, as real files.
    pub data_dir: PathBuf,
    /// The times that leases live by.
    pub timing: Timing,
    /// Entries of the log between two snapshots.
    pub snapshot_every: u64,
    /// The log.
    pub engine: Box<dyn Engine>,
    /// The disk of the stored files.
    pub disk: Arc<dyn Disk>,
    /// The other members, for what replication asks them.
    pub others: Arc<dyn Members>,
    /// The way to the other members, for Raft.
    pub transport: Arc<dyn Transport>,
    /// Told of every entry before anybody else.
    pub observers: Vec<Arc<dyn Observer>>,
    /// Time, randomness and threads.
    pub environment: Environment,
}

/// A simulated coordinator. Clones are the same; it ends with its runtime.
#[derive(Clone)]
pub struct Coordinator {
    core: Core,
    stop: CancellationToken,
}

impl Coordinator {
    /// Starts a coordinator whose Raft node is moved by the caller, and whose stored
    /// files are flushed by it. Inside its runtime.
    ///
    /// # Errors
    /// As of a real one.
    pub async fn start(setup: Setup) -> Result<(Self, Driver), Error> {
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let threads = Arc::clone(&setup.environment.blocking);
        std::fs::create_dir_all(&setup.data_dir)
            .map_err(|source| Error::DataDir { dir: setup.data_dir.clone(), source })?;
        let file = setup.data_dir.join(HISTORY_FILE);
        let history = History::open_with(file, Arc::clone(&threads), READERS).await?;
        let options = FilesOptions {
            sync_threads: 0,
            blocking: threads,
            disk: setup.disk,
            ..FilesOptions::default()
        };
        let files = Files::open(setup.data_dir.join(FILES_DIR), options)?;
        let parts = CoreParts {
            node: setup.node,
            beginning: setup.beginning,
            data_dir: setup.data_dir,
            settings: Settings {
                timing: setup.timing,
                retention: Retention { max_age: None, max_bytes: None },
                min_free_bytes: 0,
                snapshot_every: setup.snapshot_every,
            },
            history,
            files,
            others: setup.others,
            transport: setup.transport,
            observers: setup.observers,
            environment: setup.environment,
            tasks,
            stop: stop.clone(),
        };
        let mut driver = None;
        let core = Core::start(parts, async |options| {
            let (handle, prepared) = raft::prepare(options, setup.engine)?;
            driver = Some(prepared);
            Ok::<_, Error>(handle)
        })
        .await?;
        let driver = driver.ok_or_else(|| Error::Stopped("the Raft node was not begun".into()))?;
        Ok((Self { core, stop }, driver))
    }

    /// Its Raft node.
    #[must_use]
    pub fn raft(&self) -> &RaftHandle {
        &self.core.raft
    }

    /// Its history.
    #[must_use]
    pub fn history(&self) -> &History {
        &self.core.jobs.history
    }

    /// Its stored files.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.core.jobs.files
    }

    /// As `Jobs.Submit`.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn submit(&self, key: &str, spec: v1::JobSpec) -> Result<Job, ApiError> {
        let caller = caller("submit", key);
        self.core.jobs.submit(&caller, spec_from_proto(spec)?, None).await
    }

    /// As `Jobs.Cancel`.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn cancel(&self, key: &str, job: JobId) -> Result<Job, ApiError> {
        self.core.jobs.cancel(&caller("cancel", key), job, "").await
    }

    /// As `Jobs.SetPriority`.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn set_priority(
        &self,
        key: &str,
        job: JobId,
        priority: i32,
    ) -> Result<Job, ApiError> {
        self.core.jobs.set_priority(&caller("set priority", key), job, priority).await
    }

    /// As `Queues.Pause`, of the queue of jobs that require nothing.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn pause(&self, key: &str) -> Result<(), ApiError> {
        self.core.jobs.pause_queue(&caller("pause queue", key), plain_queue()).await
    }

    /// As `Queues.Resume`, of the same queue.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn resume(&self, key: &str) -> Result<(), ApiError> {
        self.core.jobs.resume_queue(&caller("resume queue", key), plain_queue()).await
    }

    /// As `Jobs.Get`.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn get(&self, job: JobId) -> Result<Job, ApiError> {
        self.core.jobs.get(job).await
    }

    /// As `Cluster.Join`.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn admit(&self, member: Member) -> Result<NodeId, ApiError> {
        self.core.members.admit(member).await
    }

    /// As `Cluster.Remove`.
    ///
    /// # Errors
    /// Those of the call.
    pub async fn remove(&self, node: NodeId) -> Result<(), ApiError> {
        self.core.members.remove(node).await
    }

    /// As `Runners.Session`, until it is over.
    ///
    /// # Errors
    /// The last word of the stream.
    pub async fn session<E: Send>(
        &self,
        inbound: impl Stream<Item = Result<v1::SessionRequest, E>> + Send,
        outbound: mpsc::UnboundedSender<Result<v1::SessionResponse, ApiError>>,
    ) -> Result<(), ApiError> {
        self.core.dispatch.clone().serve_session(inbound, outbound, self.stop.clone()).await
    }

    /// As `Runners.SendLog`, until it is over.
    ///
    /// # Errors
    /// The last word of the stream.
    pub async fn send_log<E>(
        &self,
        inbound: impl Stream<Item = Result<v1::SendLogRequest, E>> + Unpin,
        answers: mpsc::Sender<v1::SendLogResponse>,
    ) -> Result<(), ApiError> {
        let jobs = &self.core.jobs;
        let store = LogStore {
            raft: jobs.raft.clone(),
            files: jobs.files.clone(),
            replication: jobs.replication.clone(),
        };
        send_log(store, inbound, answers).await
    }

    /// As `Peer.WatchFiles`.
    #[must_use]
    pub fn watch_files(&self) -> BoxStream<'static, Result<peer::WatchFilesResponse, ApiError>> {
        replication::serve::watch_files(self.files(), self.stop.clone()).boxed()
    }

    /// As `Peer.ReadFile`.
    ///
    /// # Errors
    /// What the caller is told.
    pub async fn read_file(
        &self,
        name: &peer::FileName,
        offset: u64,
    ) -> Result<BoxStream<'static, Result<peer::ReadFileResponse, ApiError>>, ApiError> {
        let stop = self.stop.clone();
        let read = replication::serve::read_file(self.files(), Some(name), offset, stop).await?;
        Ok(read.boxed())
    }
}

/// Where a coordinator with this data folder stores the output of an attempt once it is
/// sealed, and while it grows.
#[must_use]
pub fn log_paths(data_dir: &Path, job: JobId, lease: Lease) -> [PathBuf; 2] {
    FileName::Log { job, lease }.paths(&data_dir.join(FILES_DIR))
}

fn plain_queue() -> QueueName {
    QueueName::of(DEFAULT_PROJECT, &Requirements::default())
}

fn caller(call: &str, key: &str) -> Caller {
    let mut hasher = blake3::Hasher::new();
    hasher.update(call.as_bytes()).update(key.as_bytes());
    Caller { name: "sim".to_owned(), key: key.to_owned(), digest: *hasher.finalize().as_bytes() }
}
