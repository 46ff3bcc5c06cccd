//! Runs jobs in containers of a Docker engine. The container is made and watched by a
//! monitor under a shim; here is what comes before, and what is left when they died.

pub mod container;
pub(crate) mod engine;
mod images;
mod wanted;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use baton_proto::v1::{self, executor::Kind};
use bollard::{
    Docker,
    errors::Error,
    query_parameters::{ListContainersOptions, ListNetworksOptions, RemoveContainerOptions},
};
use futures::future::{BoxFuture, FutureExt as _};
use tokio::{sync::OnceCell, time::timeout};

use self::{
    container::Engine,
    engine::{ATTEMPT_LABEL, LEASE_LABEL, RUNNER_LABEL, describe, is_missing, with_label},
};
use super::{
    Aftermath, AttemptDir, EXECUTOR_FAILED, Execution, Executor, ExecutorError, Launch, Notes,
    Place, Recovered, Unready, local::LocalExecutor,
};

/// How long an engine may take to say its version.
const CHECK_WITHIN: Duration = Duration::from_secs(10);

/// Where an engine listens on its own host.
const SOCKET: &str = "/var/run/docker.sock";

/// The engine of a runner, and what jobs may do with it.
#[derive(Clone, Debug)]
pub struct DockerConfig {
    /// `unix:///var/run/docker.sock` or `tcp://host:port`.
    pub host: String,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`, for TLS.
    pub tls: Option<PathBuf>,
    /// Folders of the engine's host that jobs may mount, with all that is in them.
    pub mounts: Vec<PathBuf>,
    /// Networks that jobs may join, besides `bridge` and `none`.
    pub networks: BTreeSet<String>,
    /// Credentials by registry, such as `registry.example.com`.
    pub registries: BTreeMap<String, Registry>,
}

impl DockerConfig {
    /// The engine of this host, if it seems to have one, without any liberties.
    #[must_use]
    pub fn of_this_host() -> Option<Self> {
        Path::new(SOCKET).exists().then(|| Self {
            host: format!("unix://{SOCKET}"),
            tls: None,
            mounts: Vec::new(),
            networks: BTreeSet::new(),
            registries: BTreeMap::new(),
        })
    }
}

/// How to log in to a registry.
#[derive(Clone, Debug)]
pub struct Registry {
    /// The user's name.
    pub username: String,
    /// The file that holds the password.
    pub password_file: PathBuf,
}

/// Runs jobs in containers.
#[derive(Debug)]
pub struct DockerExecutor {
    remains: Arc<Remains>,
    shims: LocalExecutor,
}

impl DockerExecutor {
    /// An executor for the engine of `config`, with shims that start as those of
    /// [`LocalExecutor::new`] do.
    #[must_use]
    pub fn new(config: DockerConfig, shims: LocalExecutor) -> Self {
        let remains = Arc::new(Remains { config, engine: OnceCell::new() });
        let aftermath: Arc<dyn Aftermath> = Arc::<Remains>::clone(&remains);
        Self { remains, shims: shims.with_aftermath(aftermath) }
    }
}

impl Executor for DockerExecutor {
    fn prepare<'a>(
        &'a self,
        wanted: &'a v1::Executor,
        notes: &'a dyn Notes,
    ) -> BoxFuture<'a, Result<Place, Unready>> {
        async move {
            let Some(Kind::Docker(wanted)) = &wanted.kind else { return Ok(Place::Host) };
            let config = &self.remains.config;
            let unreachable =
                |message| Unready { reason: EXECUTOR_FAILED, message, transient: true };
            let engine = self.remains.engine().await.map_err(unreachable)?;
            let container = wanted::settle(wanted, config, engine)?;
            let docker = self.remains.connect().await.map_err(unreachable)?;
            let services = container.services.iter().map(|service| service.image.as_str());
            for image in services.chain([container.image.as_str()]) {
                images::bring(&docker, config, image, wanted.pull(), notes).await?;
            }
            Ok(Place::Container(Box::new(container)))
        }
        .boxed()
    }

    by_shims!();

    fn check(&self) -> BoxFuture<'_, Result<String, String>> {
        async move {
            let docker = self.remains.connect().await?;
            let failed = |error: Error| {
                format!("the Docker engine at {}: {}", self.remains.config.host, describe(&error))
            };
            let version = timeout(CHECK_WITHIN, docker.version()).await;
            let silent = || Err(format!("the engine at {} is silent", self.remains.config.host));
            let version = version.map_or_else(|_| silent(), |version| version.map_err(failed))?;
            Ok(version.version.unwrap_or_default())
        }
        .boxed()
    }

    fn sweep<'a>(
        &'a self,
        runner: &'a str,
        is_held: &'a (dyn Fn(u64) -> bool + Sync),
    ) -> BoxFuture<'a, Result<u32, String>> {
        async move {
            let docker = self.remains.connect().await?;
            let is_orphan = |labels: Option<&HashMap<String, String>>| {
                let lease = labels.and_then(|labels| labels.get(LEASE_LABEL)?.parse().ok());
                lease.is_none_or(|lease| !is_held(lease))
            };
            remove(&docker, with_label(RUNNER_LABEL, runner), is_orphan).await
        }
        .boxed()
    }
}

/// The engine, and what of Baton's is on it.
#[derive(Debug)]
struct Remains {
    config: DockerConfig,
    /// As it answered last.
    engine: OnceCell<Engine>,
}

impl Remains {
    async fn engine(&self) -> Result<Engine, String> {
        let ask = || async {
            let (host, tls) = (&self.config.host, self.config.tls.as_deref());
            let failed =
                |error: Error| format!("the Docker engine at {host}: {}", describe(&error));
            let docker = engine::negotiate(host, tls).await.map_err(failed)?;
            let info = docker.info().await.map_err(failed)?;
            let version = docker.client_version();
            Ok(Engine {
                host: host.clone(),
                tls: self.config.tls.clone(),
                api: (version.major_version, version.minor_version),
                init: info.init_binary.is_some_and(|binary| !binary.is_empty()),
            })
        };
        self.engine.get_or_try_init(ask).await.cloned()
    }

    async fn connect(&self) -> Result<Docker, String> {
        let engine = self.engine().await?;
        engine::connect(&engine).map_err(|error| describe(&error))
    }
}

impl Aftermath for Remains {
    fn end<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, Result<u32, String>> {
        async move {
            let docker = self.connect().await?;
            let marked = with_label(ATTEMPT_LABEL, &dir.display().to_string());
            remove(&docker, marked, |_| true).await
        }
        .boxed()
    }
}

/// Removes the containers that pass the filter and are `meant`, running or not, and then
/// their networks; how many containers that were.
async fn remove(
    docker: &Docker,
    filter: HashMap<String, Vec<String>>,
    meant: impl Fn(Option<&HashMap<String, String>>) -> bool,
) -> Result<u32, String> {
    let options = ListContainersOptions {
        all: true,
        filters: Some(filter.clone()),
        ..ListContainersOptions::default()
    };
    let listed = docker.list_containers(Some(options)).await.map_err(|error| describe(&error))?;
    let mut removed = 0;
    for container in listed.iter().filter(|container| meant(container.labels.as_ref())) {
        let options = RemoveContainerOptions { force: true, v: true, link: false };
        let id = container.id.as_deref().unwrap_or_default();
        unless_missing(docker.remove_container(id, Some(options)).await)?;
        removed += 1;
    }
    // Theirs was made before them, and may be of a job that has started since.
    let options = ListNetworksOptions { filters: Some(filter) };
    let listed = docker.list_networks(Some(options)).await.map_err(|error| describe(&error))?;
    for network in listed.iter().filter(|network| meant(network.labels.as_ref())) {
        let id = network.id.as_deref().unwrap_or_default();
        unless_missing(docker.remove_network(id).await)?;
    }
    Ok(removed)
}

fn unless_missing(removed: Result<(), Error>) -> Result<(), String> {
    match removed {
        Err(error) if !is_missing(&error) => Err(describe(&error)),
        _ => Ok(()),
    }
}
