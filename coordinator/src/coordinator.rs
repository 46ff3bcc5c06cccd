//! A coordinator, put together from its parts.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    net::SocketAddr,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use baton_proto::error::ApiError;
use baton_state::Index;
use futures::future::join_all;
use nix::fcntl::{Flock, FlockArg};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    address::{self, AddressError},
    auth::Authenticator,
    backup::{self, Backups},
    config::Config,
    core::{Core, CoreParts, RAFT, Settings},
    dispatch::TimingError,
    environment::Environment,
    files::{Files, FilesError, FilesOptions},
    fleet::{Fleet, Journal, Looks},
    grpc::{self, Readers, Services},
    history::{self, History, READERS},
    join::JoinError,
    members::Members,
    peers::{self, Calls, Directory, Network, Outgoing, PeerService, Twins},
    raft::{self, ProposeError, RaftError, RaftHandle},
    reach::{Probe, Reach, watch_addresses, watch_majority},
    roster::Roster,
    step_down::{self, Watched},
    this_node::ThisNode,
};

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
    /// Others could not reach it, or it not them.
    #[error(transparent)]
    Address(#[from] AddressError),
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
    /// What was to become its data folder is not whole.
    #[error(
        "a restore into {0} did not come to its end; empty the folder, and restore the backup again"
    )]
    HalfRestored(PathBuf),
    /// `member.json` cannot be read or written.
    #[error("cannot read or write {path}: {source}")]
    Identity {
        /// Where it is.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// No cluster has admitted it.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The token cannot be used.
    #[error(transparent)]
    Token(#[from] ApiError),
    /// The others have removed it.
    #[error(
        "this coordinator was removed from the cluster; to bring its host back, empty its data \
         folder and let it join again"
    )]
    Removed,
    /// The others know of entries that it had and has no more.
    #[error(
        "an old copy has taken the place of this coordinator's data folder: its log ends at entry \
         {kept}, and it had entry {known}; it must not go on as a member: remove it from the \
         cluster (`baton cluster remove`), empty the folder, and let it join again"
    )]
    LogRolledBack {
        /// The last entry that is there.
        kept: Index,
        /// The last one that another member knows it to have had.
        known: Index,
    },
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

/// The history.
pub(crate) const HISTORY_FILE: &str = "history.db";
/// Folder of the stored files.
pub(crate) const FILES_DIR: &str = "files";
/// There while a backup is being restored.
pub(crate) const RESTORING: &str = "restoring";

/// Bytes of one file of the Raft log.
pub(crate) const LOG_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// How long a start waits for the others to say what they know of this one.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);

/// How long a stop waits for another coordinator to lead.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(2);

/// How long a stop waits for streams to end.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// A task that serves calls.
type Server = JoinHandle<Result<(), tonic::transport::Error>>;

/// A running coordinator.
pub struct Coordinator {
    address: SocketAddr,
    peer_address: SocketAddr,
    raft: RaftHandle,
    members: Members,
    directory: Arc<Directory>,
    lacking: watch::Receiver<Option<u64>>,
    history: History,
    server: Server,
    peer_server: Server,
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
        if config.data_dir.join(RESTORING).exists() {
            return Err(Error::HalfRestored(config.data_dir));
        }
        // Before anything else can fail slowly: are the addresses to be had?
        let (listener, address) = bind(config.listen).await?;
        let (peer_listener, peer_address) = bind(config.peer_listen).await?;

        let this = ThisNode::find(&config, address, peer_address, &environment).await?;
        let directory = Arc::new(Directory::new(this.hello(), &config.token)?);

        let threads = Arc::clone(&environment.blocking);
        let history =
            History::open_with(config.data_dir.join(HISTORY_FILE), threads, READERS).await?;
        let files = open_files(config.data_dir.join(FILES_DIR), &environment).await?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let network = Arc::new(Network::new(Arc::clone(&directory), tasks.clone(), stop.clone()));
        let journal = Arc::new(Journal::new(Arc::clone(&environment.clock)));
        let parts = CoreParts {
            node: this.membership.node_id,
            beginning: this.beginning(&environment),
            data_dir: config.data_dir.clone(),
            settings: Settings {
                timing: config.timing,
                retention: config.retention,
                min_free_bytes: config.min_free_bytes,
                snapshot_every: config.snapshot_every,
            },
            history: history.clone(),
            files: files.clone(),
            others: Arc::clone(&directory) as _,
            transport: Arc::clone(&network) as _,
            observers: vec![Arc::clone(&directory) as _, Arc::clone(&journal) as _],
            environment,
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let start = async |options| {
            blocking(move || raft::start(options, LOG_FILE_BYTES).map_err(Error::from)).await
        };
        let Core { raft, members, jobs, dispatch, leadership } = Core::start(parts, start).await?;
        if let Err(error) = check_log(&raft, &directory).await {
            stop.cancel();
            raft.stop().await;
            history.stop().await;
            return Err(error);
        }
        network.start(raft.clone());
        tasks.spawn(members.clone().announce(
            this.membership.node_id,
            this.member.clone(),
            config.token.clone(),
            stop.clone(),
        ));
        let reach = Reach::default();
        tasks.spawn(watch_addresses(
            raft.clone(),
            Arc::clone(&directory),
            Probe::new(this.membership.cluster_id.clone(), &config.token)?,
            reach.clone(),
            stop.clone(),
        ));
        tasks.spawn(watch_majority(
            raft.clone(),
            Arc::clone(&directory),
            reach.clone(),
            stop.clone(),
        ));
        let watched = Watched {
            members: members.clone(),
            directory: Arc::clone(&directory),
            reach: reach.clone(),
            disk: jobs.disk.clone(),
            history: history.clone(),
        };
        tasks.spawn(step_down::hand_over(watched, stop.clone()));
        let failed = |source| Error::DataDir { dir: config.data_dir.clone(), source };
        let backups = Backups::new(jobs.clone(), &config.data_dir).map_err(failed)?;
        if let Some(schedule) = config.backups.clone() {
            let node = this.membership.node_id;
            tasks.spawn(backup::keep_schedule(backups.clone(), schedule, node, stop.clone()));
        }
        let lacking = jobs.replication.lacking();
        let raft_dir = config.data_dir.join(RAFT);
        let outgoing =
            Outgoing::start(&raft_dir, history.clone(), &tasks, &stop).map_err(failed)?;
        let peer_service = PeerService {
            snapshots: outgoing,
            directory: Arc::clone(&directory),
            node: raft.clone(),
            history: history.clone(),
            files: files.clone(),
            lacking: lacking.clone(),
            disk: jobs.disk.clone(),
            tasks: tasks.clone(),
            stop: stop.clone(),
            calls: Arc::new(Calls::default()),
            twins: Arc::new(Twins::default()),
            reach,
            clock: Arc::clone(&jobs.environment.clock),
        };
        let roster = Roster { raft: raft.clone(), peers: peer_service.clone() };
        let (looks, look) = Looks::new();
        tasks.spawn(look.run(jobs.clone(), roster.clone(), stop.clone()));
        let fleet = Fleet { jobs: jobs.clone(), dispatch: dispatch.clone(), journal, looks };
        let services = Services {
            fleet,
            roster,
            dispatch,
            leadership,
            jobs,
            backups,
            members: members.clone(),
            archive_limit: config.archive_limit,
            tree_limit: config.tree_limit,
            readers: Readers::default(),
            tasks: tasks.clone(),
            stop: stop.clone(),
        };
        let authenticator = Authenticator::new(&config.token);
        let peer_server = peers::serve(peer_service, authenticator.clone(), peer_listener);
        let peer_server = tasks.spawn(peer_server);
        let authenticator = authenticator.with_jobs(raft.clone());
        let server = tasks.spawn(grpc::serve(services, authenticator, listener));
        info!(
            %address,
            %peer_address,
            node = %this.membership.node_id,
            cluster = this.membership.cluster_id,
            data = %config.data_dir.display(),
            "coordinator serves"
        );
        tasks.spawn(this.note_start(raft.status(), stop.clone()));
        Ok(Self {
            address,
            peer_address,
            raft,
            members,
            directory,
            lacking,
            history,
            server,
            peer_server,
            tasks,
            stop,
            _lock: lock,
        })
    }

    /// Where the API is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where the other coordinators are served.
    #[must_use]
    pub fn peer_address(&self) -> SocketAddr {
        self.peer_address
    }

    /// Where this node stands among the others, as it changes.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<raft::Status> {
        self.raft.status()
    }

    /// How many stored files the others have that this one has yet to fetch, as it
    /// changes; none while that is not known.
    #[must_use]
    pub fn missing_files(&self) -> watch::Receiver<Option<u64>> {
        self.lacking.clone()
    }

    /// Returns when the coordinator cannot go on, with the reason.
    pub async fn failed(&mut self) -> Error {
        let mut status = self.raft.status();
        let mut removed = self.directory.removed();
        tokio::select! {
            served = &mut self.server => no_longer_serves("the API", served),
            served = &mut self.peer_server => no_longer_serves("the other coordinators", served),
            failure = node_failure(&mut status) => Error::Stopped(failure),
            Ok(_) = removed.wait_for(|removed| *removed) => Error::Removed,
        }
    }

    /// Stops cleanly: another one leads, callers are told to come back, everything
    /// is on disk.
    pub async fn stop(self) {
        if self.raft.status().borrow().leading {
            // Without another voter that runs there is nobody to lead meanwhile.
            let _ = tokio::time::timeout(HAND_OVER_WITHIN, self.members.transfer(None)).await;
        }
        self.stop.cancel();
        self.tasks.close();
        if tokio::time::timeout(STOP_WITHIN, self.tasks.wait()).await.is_err() {
            warn!("some streams did not end in time; leaving them");
        }
        self.server.abort();
        self.peer_server.abort();
        self.raft.stop().await;
        self.history.stop().await;
        info!("coordinator stopped");
    }

    /// Ends the threads of a coordinator whose runtime was shut down, and with it all its
    /// connections: nobody is told and nobody else is made leader, as if it had been killed.
    pub async fn abort(self) {
        self.raft.stop().await;
    }
}

fn no_longer_serves(
    whom: &str,
    end: Result<Result<(), tonic::transport::Error>, tokio::task::JoinError>,
) -> Error {
    match end {
        Ok(Err(error)) => Error::Serve(error),
        Ok(Ok(())) => Error::Stopped(format!("it no longer serves {whom}")),
        Err(error) => Error::Stopped(error.to_string()),
    }
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::Listen { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// Refuses a log that lacks what this node has acknowledged to another one, before anybody
/// is served: an old copy of the data folder has taken its place. Who does not answer at
/// once is not waited for.
async fn check_log(raft: &RaftHandle, directory: &Directory) -> Result<(), Error> {
    let stopped = |error: ProposeError| Error::Stopped(error.to_string());
    let kept = raft.kept(directory.this()).await.map_err(stopped)?;
    let others: Vec<_> = directory.peers().borrow().keys().copied().collect();
    let asked = others.into_iter().map(|node| timeout(KNOWN_WITHIN, directory.status_of(node)));
    let answers = join_all(asked).await.into_iter().flatten().flatten();
    match answers.map(|answer| answer.acknowledged).max() {
        Some(known) if known > kept => Err(Error::LogRolledBack { kept, known }),
        _ => Ok(()),
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
    config.check_addresses()?;
    for missing in address::missing(config) {
        warn!("{missing}; until then no other coordinator can join it");
    }
    for listen in [config.listen, config.peer_listen] {
        if listen.ip().is_loopback() {
            continue;
        }
        if !config.allow_insecure_listen {
            return Err(Error::InsecureListen(listen));
        }
        warn!(
            %listen,
            "open to other hosts WITHOUT ENCRYPTION: tokens, code and output can be read on the network"
        );
    }
    Ok(())
}

pub(crate) fn lock_data_dir(dir: &Path) -> Result<Flock<File>, Error> {
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

async fn open_files(root: PathBuf, environment: &Environment) -> Result<Files, Error> {
    let threads = Arc::clone(&environment.blocking);
    let options = FilesOptions { blocking: threads, ..FilesOptions::default() };
    blocking(move || Files::open(root, options).map_err(Error::from)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Error::Stopped(error.to_string())),
    }
}
