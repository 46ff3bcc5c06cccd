//! A runner, put together from its parts.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use baton_proto::error::ApiError;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::{info, warn};

use crate::{
    Config, Environment,
    caches::Caches,
    content::ContentStore,
    environment::blocking,
    executor::{
        Executor, Executors, docker::DockerExecutor, local::LocalExecutor, ssh::SshExecutor,
    },
    health::{Checks, Health, Stores},
    identity::{self, Identity},
    job::{Attempts, Surroundings},
    session::{Session, Stay, Staying},
    shim,
    source::git,
};

/// Why a runner cannot start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data folder cannot be used.
    #[error("cannot use the data folder {dir}: {source}")]
    DataDir {
        /// Which folder.
        dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another runner uses the data folder.
    #[error("another runner is using {0}; stop it first, or choose another data folder")]
    DataDirInUse(PathBuf),
    /// Another runner has the same identity.
    #[error("{error}; {}", error.action)]
    Copy {
        /// What the coordinator said.
        error: ApiError,
    },
}

/// How often the executors are asked for what is left of leases that ended.
const SWEEP_EVERY: Duration = Duration::from_secs(300);

/// How long a stop waits for tasks to end.
const STOP_WITHIN: Duration = Duration::from_secs(5);

/// How long a runner that goes tries to tell a coordinator.
const TOLD_WITHIN: Duration = Duration::from_secs(2);

/// A running runner.
pub struct Runner {
    id: String,
    executors: Executors,
    health: Health,
    caches: Caches,
    contents: ContentStore,
    config: Config,
    environment: Environment,
    session: JoinHandle<Option<ApiError>>,
    attempts: Attempts,
    staying: Arc<Staying>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

impl Runner {
    /// Starts a runner of this host: it takes up what an earlier process left, and
    /// connects.
    ///
    /// # Errors
    /// [`Error`], with what to do about it.
    pub async fn start(config: Config) -> Result<Self, Error> {
        if let Err(error) = shim::cgroup::make_way() {
            warn!(%error, "no control groups of version 2 for jobs");
        }
        let shims = || LocalExecutor::new(config.shim_command.clone());
        let docker = config.docker.clone().map(|docker| {
            let executor: Arc<dyn Executor> = Arc::new(DockerExecutor::new(docker, shims()));
            executor
        });
        let ssh = config.ssh.keys().map(|name| {
            let executor: Arc<dyn Executor> =
                Arc::new(SshExecutor::new(&config.ssh, name, shims()));
            (name.clone(), executor)
        });
        let ssh = ssh.collect();
        let local = Arc::new(shims());
        let executors = Executors { local, offers_local: config.local, docker, ssh };
        let runner = Self::start_with(config, Environment::system(), executors).await?;
        runner.check_health();
        Ok(runner)
    }

    /// Begins to look at this host and the executors.
    fn check_health(&self) {
        let checks = Checks {
            executors: self.executors.clone(),
            data_dir: self.config.data_dir.clone(),
            min_free: self.config.min_free,
            interval: self.config.health_interval,
            stores: Stores {
                caches: self.caches.clone(),
                contents: self.contents.clone(),
                mirrors: git::mirrors(&self.config.data_dir),
            },
        };
        let (health, stop) = (self.health.clone(), self.stop.clone());
        self.tasks
            .spawn(async move { stop.run_until_cancelled(health.keep_checking(&checks)).await });
    }

    /// Starts a runner in an environment of the caller's, whose jobs `executors` run:
    /// [`Config::shim_command`] means nothing to them. The data folder is a real one.
    ///
    /// # Errors
    /// [`Error`], with what to do about it.
    pub async fn start_with(
        config: Config,
        environment: Environment,
        executors: Executors,
    ) -> Result<Self, Error> {
        // An absolute path: jobs have folders in it and run elsewhere.
        let given = config.data_dir.clone();
        let data_dir =
            std::path::absolute(&given).map_err(|source| Error::DataDir { dir: given, source })?;
        let config = Config { data_dir, ..config };
        let (dir, cache_limit) = (config.data_dir.clone(), config.cache_limit);
        let (chunks, chunk_limit) = (config.data_dir.join("chunks"), config.chunk_limit);
        let failed = |source| Error::DataDir { dir: config.data_dir.clone(), source };
        let take = move || {
            let identity = Identity::take(&dir)?;
            let stores = Caches::open(&dir, cache_limit)
                .and_then(|caches| Ok((caches, ContentStore::open(chunks, chunk_limit)?)));
            Ok((identity, stores))
        };
        let taken: Result<Result<_, Error>, _> = blocking(&*environment.blocking, take).await;
        let (identity, stores) = taken.map_err(|error| failed(io::Error::other(error)))??;
        let (caches, contents) = stores.map_err(failed)?;
        let health = Health::default();
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (link, linked) = watch::channel(None);
        let (report, reports) = mpsc::unbounded_channel();
        let attempts = Attempts::new(Surroundings {
            config: config.clone(),
            environment: environment.clone(),
            executors: executors.clone(),
            contents: contents.clone(),
            runner_id: identity.runner_id.clone(),
            health: health.clone(),
            caches: caches.clone(),
            link: linked,
            reports: report,
            tasks: tasks.clone(),
            stop: stop.clone(),
        });
        attempts.recover().await?;
        let id = identity.runner_id.clone();
        tasks.spawn({
            let (attempts, stop) = (attempts.clone(), stop.clone());
            async move { stop.run_until_cancelled(attempts.keep_sweeping(SWEEP_EVERY)).await }
        });
        info!(runner = id, name = config.name, data = %config.data_dir.display(), "runner starts");
        let staying = Arc::new(Staying::default());
        let session = Session {
            config: config.clone(),
            environment: environment.clone(),
            identity,
            attempts: attempts.clone(),
            staying: Arc::clone(&staying),
            health: health.clone(),
            health_reports: health.reports(),
            link,
            reports,
        };
        let stopped = stop.clone();
        let session = tasks.spawn(async move { stopped.run_until_cancelled(session.keep()).await });
        Ok(Self {
            id,
            executors,
            health,
            caches,
            contents,
            config,
            environment,
            session,
            attempts,
            staying,
            tasks,
            stop,
        })
    }

    /// The id that it made for itself.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Returns when the runner has nothing more to do: an ephemeral one that had its job
    /// and has given up its id.
    ///
    /// # Errors
    /// When it cannot go on, with the reason.
    pub async fn ended(&mut self) -> Result<(), Error> {
        let (attempts, staying, environment) = (&self.attempts, &self.staying, &self.environment);
        let served = async {
            if !self.config.ephemeral {
                std::future::pending::<()>().await;
            }
            staying.until_served().await;
            attempts.until_none().await;
            forget(&self.config, environment, staying).await
        };
        tokio::select! {
            biased;
            ended = &mut self.session => match ended {
                Ok(Some(error)) => Err(Error::Copy { error }),
                // It was told to stop, or panicked.
                Ok(None) | Err(_) => std::future::pending().await,
            },
            served = served => served,
        }
    }

    /// Tells the coordinator that this runner takes no more jobs, and waits up to `limit`
    /// for those that it has.
    pub async fn drain(&self, limit: Duration) {
        self.staying.decide(Stay::Leaves);
        let told = self.staying.until_told(Stay::Leaves);
        if tokio::time::timeout(TOLD_WITHIN, told).await.is_err() {
            // It hears so when the session opens again.
            warn!("no coordinator has heard yet that this runner is being stopped");
        }
        if !limit.is_zero() {
            info!(?limit, "waiting for the jobs to end");
            if tokio::time::timeout(limit, self.attempts.until_none()).await.is_err() {
                warn!("some jobs still run; they go on without this runner");
            }
        }
    }

    /// Stops the runner. Its jobs go on, and the next start takes them up again.
    pub async fn stop(self) {
        self.stop.cancel();
        self.tasks.close();
        let ended = async { tokio::join!(self.tasks.wait(), self.executors.detach()) };
        if tokio::time::timeout(STOP_WITHIN, ended).await.is_err() {
            warn!("some tasks did not end in time; leaving them");
        }
        info!("runner stopped; its jobs go on");
    }
}

/// Gives up the id of an ephemeral runner that had its job.
async fn forget(
    config: &Config,
    environment: &Environment,
    staying: &Staying,
) -> Result<(), Error> {
    let dir = config.data_dir.clone();
    // First: what may be forgotten must never come back.
    let forgotten = blocking(&*environment.blocking, move || identity::forget(&dir)).await;
    let forgotten = forgotten.unwrap_or_else(|error| Err(io::Error::other(error)));
    forgotten.map_err(|source| Error::DataDir { dir: config.data_dir.clone(), source })?;
    staying.decide(Stay::IsGone);
    if tokio::time::timeout(TOLD_WITHIN, staying.until_told(Stay::IsGone)).await.is_err() {
        warn!("no coordinator has heard that this runner is gone; it is forgotten later");
    }
    Ok(())
}
