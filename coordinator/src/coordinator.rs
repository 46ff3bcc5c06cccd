//! A coordinator, put together from its parts.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use baton_state::{Event, Index, State};
use nix::fcntl::{Flock, FlockArg};
use tokio::{net::TcpListener, runtime::Handle, sync::watch, task::JoinHandle};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    auth::Authenticator,
    disk::DiskGuard,
    dispatch::{Dispatch, DispatchObserver, Timing, TimingError},
    environment::Environment,
    files::{Files, FilesError, FilesOptions},
    grpc::{self, Readers, Services},
    history::{self, History},
    jobs::Jobs,
    raft::{self, Observer, RaftError, RaftHandle},
    replication::Replication,
    retention::{self, Retention},
    uploads::Uploads,
    watchers::Watchers,
};

/// How a coordinator is set up.
#[derive(Clone)]
pub struct Config {
    /// This node's number in the cluster, at least 1.
    pub node_id: u64,
    /// Everything it keeps is in here.
    pub data_dir: PathBuf,
    /// Where it serves the API; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Serve other hosts without TLS.
    pub allow_insecure_listen: bool,
    /// The token that every caller must bring.
    pub token: String,
    /// The times that leases live by.
    pub timing: Timing,
    /// What is kept of finished jobs.
    pub retention: Retention,
    /// The largest archive in bytes.
    pub archive_limit: u64,
    /// New work is refused when the data disk has fewer bytes free than this.
    pub min_free_bytes: u64,
    /// Entries of the Raft log between two snapshots.
    pub snapshot_every: u64,
}

impl Config {
    /// The defaults, for a cluster of one.
    #[must_use]
    pub fn new(data_dir: PathBuf, listen: SocketAddr, token: String) -> Self {
        Self {
            node_id: 1,
            data_dir,
            listen,
            allow_insecure_listen: false,
            token,
            timing: Timing::default(),
            retention: Retention::default(),
            archive_limit: 500 * 1024 * 1024,
            min_free_bytes: 128 * 1024 * 1024,
            snapshot_every: 20_000,
        }
    }
}

/// Why a coordinator cannot start or go on.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The address is open to other hosts and there is no TLS.
    #[error(
        "{0} is open to other hosts and nothing is encrypted: whoever can read the network would \
         read token, code and output; listen on 127.0.0.1, or accept that with \
         --allow-insecure-listen (`allow_insecure_listen = true` in the config file)"
    )]
    InsecureListen(SocketAddr),
    /// The times do not go together.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// The token would let anybody in.
    #[error("the token must have at least 16 characters")]
    WeakToken,
    /// The address cannot be had.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// Which address.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The data folder cannot be used.
    #[error("cannot use the data folder {dir}: {source}")]
    DataDir {
        /// Which folder.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process uses the data folder.
    #[error("another coordinator is using {0}; stop it first, or choose another data folder")]
    DataDirInUse(PathBuf),
    /// The Raft node failed.
    #[error(transparent)]
    Raft(#[from] RaftError),
    /// The history failed.
    #[error(transparent)]
    History(#[from] history::Error),
    /// The stored files failed.
    #[error(transparent)]
    Files(#[from] FilesError),
    /// The API could not be served.
    #[error("serving the API failed: {0}")]
    Serve(#[from] tonic::transport::Error),
    /// A part ended that should not have.
    #[error("the coordinator stopped by itself: {0}")]
    Stopped(String),
}

/// Bytes of one file of the Raft log.
const LOG_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// How long a stop waits for streams to end.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A running coordinator.
pub struct Coordinator {
    address: SocketAddr,
    raft: RaftHandle,
    history: History,
    server: JoinHandle<Result<(), tonic::transport::Error>>,
    tasks: TaskTracker,
    stop: CancellationToken,
    /// Keeps other processes out of the data folder.
    _lock: Flock<File>,
}

impl Coordinator {
    /// Starts a coordinator; it serves when this returns.
    ///
    /// # Errors
    /// [`Error`], with what to do about it.
    pub async fn start(config: Config) -> Result<Self, Error> {
        Self::start_with(config, Environment::system()).await
    }

    /// Starts a coordinator with a time and randomness of the caller's.
    ///
    /// # Errors
    /// As [`Coordinator::start`].
    pub async fn start_with(config: Config, environment: Environment) -> Result<Self, Error> {
        check(&config)?;
        let lock = lock_data_dir(&config.data_dir)?;
        // Before anything else can fail slowly: is the address to be had?
        let bound = TcpListener::bind(config.listen).await;
        let failed = |source| Error::Listen { address: config.listen, source };
        let listener = bound.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        let history = History::open(config.data_dir.join("history.db")).await?;
        let files = open_files(config.data_dir.join("files")).await?;
        let watchers = Arc::new(Watchers::default());
        let observer = DispatchObserver::new(config.timing, environment.clone());
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let told =
            vec![Arc::new(observer.clone()) as Arc<dyn Observer>, Arc::clone(&watchers) as _];
        let raft = start_raft(&config, &environment, &history, told, stop.clone()).await?;
        let jobs = Jobs {
            raft: raft.clone(),
            history: history.clone(),
            files: files.clone(),
            replication: Replication::alone(files.clone()),
            uploads: Uploads::default(),
            disk: DiskGuard::new(config.data_dir.clone(), config.min_free_bytes),
            watchers,
            environment,
        };
        tasks.spawn(retention::evict(jobs.clone(), stop.clone()));
        tasks.spawn(retention::prune(jobs.clone(), config.retention, stop.clone()));
        let services = Services {
            dispatch: Dispatch::start(&observer, raft.clone(), files, &tasks, stop.clone()),
            jobs,
            archive_limit: config.archive_limit,
            readers: Readers::default(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let authenticator = Authenticator::new(&config.token);
        let server = tasks.spawn(grpc::serve(services, authenticator, listener));
        info!(%address, data = %config.data_dir.display(), "coordinator serves");
        Ok(Self { address, raft, history, server, tasks, stop, _lock: lock })
    }

    /// Where the API is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when the coordinator cannot go on, with the reason.
    pub async fn failed(&mut self) -> Error {
        let mut status = self.raft.status();
        tokio::select! {
            served = &mut self.server => match served {
                Ok(Err(error)) => Error::Serve(error),
                Ok(Ok(())) => Error::Stopped("the API is no longer served".to_owned()),
                Err(error) => Error::Stopped(error.to_string()),
            },
            failure = node_failure(&mut status) => Error::Stopped(failure),
        }
    }

    /// Stops cleanly: callers are told to come back, everything is on disk.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_WITHIN, self.tasks.wait()).await.is_err() {
            warn!("some streams did not end in time; leaving them");
        }
        self.server.abort();
        self.raft.stop().await;
        self.history.stop().await;
        info!("coordinator stopped");
    }
}

async fn node_failure(status: &mut watch::Receiver<raft::Status>) -> String {
    let failed = status.wait_for(|status| status.failure.is_some()).await;
    let failure = failed.ok().and_then(|status| status.failure.clone());
    failure.unwrap_or_else(|| "the Raft node ended".to_owned())
}

fn check(config: &Config) -> Result<(), Error> {
    if config.token.len() < 16 {
        return Err(Error::WeakToken);
    }
    config.timing.check()?;
    if !config.listen.ip().is_loopback() {
        if !config.allow_insecure_listen {
            return Err(Error::InsecureListen(config.listen));
        }
        warn!(
            listen = %config.listen,
            "the API is open to other hosts WITHOUT ENCRYPTION: tokens, code and output can be read on the network"
        );
    }
    Ok(())
}

fn lock_data_dir(dir: &Path) -> Result<Flock<File>, Error> {
    let failed = |source| Error::DataDir { dir: dir.to_owned(), source };
    // Jobs' environments, code and output are nobody else's business.
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(dir.join("lock"))
        .map_err(failed)?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| Error::DataDirInUse(dir.to_owned()))
}

async fn open_files(root: PathBuf) -> Result<Files, Error> {
    blocking(move || Files::open(root, FilesOptions::default()).map_err(Error::from)).await
}

async fn start_raft(
    config: &Config,
    environment: &Environment,
    history: &History,
    mut observers: Vec<Arc<dyn Observer>>,
    stop: CancellationToken,
) -> Result<RaftHandle, Error> {
    let failed = |source| Error::DataDir { dir: config.data_dir.clone(), source };
    let feed = HistoryFeed::start(history.sender()).map_err(failed)?;
    observers.insert(0, Arc::new(feed));
    let guard = history.clone();
    let runtime = Handle::current();
    let options = raft::Options {
        node_id: config.node_id,
        dir: config.data_dir.join("raft"),
        snapshot_every: config.snapshot_every,
        log_file_bytes: LOG_FILE_BYTES,
        history: Some(*history.position().borrow()),
        observers,
        safe_elsewhere: Arc::new(move |index| {
            runtime.block_on(in_history(&guard, index, &stop)).map_err(io::Error::other)
        }),
        environment: environment.clone(),
    };
    blocking(move || raft::start(options).map_err(Error::from)).await
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
            reached = position.wait_for(|position| *position >= index) => {
                reached.map_err(|_| history::Error::Stopped)?;
            }
            () = stop.cancelled() => return Err(history::Error::Stopped),
        }
    }
    Ok(())
}

/// Takes what happened to the history, by way of a thread of its own: while the
/// history waits for its disk, Raft must go on.
struct HistoryFeed(mpsc::Sender<history::Batch>);

impl HistoryFeed {
    fn start(history: history::Sender) -> io::Result<Self> {
        let (sender, batches) = mpsc::channel();
        thread::Builder::new().name("history-feed".to_owned()).spawn(move || {
            for batch in batches {
                if history.send(batch).is_err() {
                    // It was stopped; the log keeps what it lacks.
                    return;
                }
            }
        })?;
        Ok(Self(sender))
    }
}

impl Observer for HistoryFeed {
    fn applied(&self, through: Index, _state: &State, events: &[Event]) {
        // Nobody receives once the history was stopped; the log keeps what it lacks.
        let _ = self.0.send(history::Batch { through, events: events.to_vec() });
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Stopped(error.to_string())),
    }
}
