//! Where the cases run.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use baton_proto::v1::{self, executor::Kind};
use baton_runner::executor::{
    Executor, Notes, Place,
    docker::{DockerConfig, DockerExecutor},
    local::LocalExecutor,
    ssh::{Address, SshExecutor, TargetConfig, remote::Login},
};
use baton_tests::{baton, docker, docker::Image, ssh::Server};
use futures::future::{BoxFuture, FutureExt as _};

use crate::attempt::PATIENCE;

/// Where the cases run.
pub(crate) trait Backend: Send + Sync {
    /// An executor, as a runner that starts has one.
    fn executor(&self) -> Arc<dyn Executor>;

    /// Where a command runs.
    fn place(&self) -> BoxFuture<'_, Place>;

    /// What there is of the attempt in this folder besides processes of this host, for
    /// people; empty when there is nothing.
    fn left<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, String>;
}

fn shims() -> LocalExecutor {
    LocalExecutor::new(vec![baton().into(), "shim".into()])
}

/// No image has to be pulled here, so nothing is noted.
struct NoNotes;

impl Notes for NoNotes {
    fn add<'a>(&'a self, line: &'a str) -> BoxFuture<'a, ()> {
        panic!("{line}");
    }
}

/// This host.
pub(crate) struct Local;

impl Local {
    pub(crate) fn find() -> Option<Self> {
        Some(Self)
    }
}

impl Backend for Local {
    fn executor(&self) -> Arc<dyn Executor> {
        Arc::new(shims())
    }

    fn place(&self) -> BoxFuture<'_, Place> {
        std::future::ready(Place::Host).boxed()
    }

    fn left<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, String> {
        std::future::ready(String::new()).boxed()
    }
}

/// A container of the engine here, with an image of ours.
pub(crate) struct Docker {
    image: Arc<Image>,
}

impl Docker {
    /// None, said loudly, without an engine.
    pub(crate) fn find() -> Option<Self> {
        docker::or_skip()?;
        static IMAGE: OnceLock<std::sync::Mutex<std::sync::Weak<Image>>> = OnceLock::new();
        let mut image = IMAGE.get_or_init(Default::default).lock().unwrap();
        let made = image.upgrade().unwrap_or_else(|| Arc::new(Image::make()));
        *image = Arc::downgrade(&made);
        Some(Self { image: made })
    }
}

impl Backend for Docker {
    fn executor(&self) -> Arc<dyn Executor> {
        let config = DockerConfig {
            host: "unix:///var/run/docker.sock".to_owned(),
            tls: None,
            mounts: Vec::new(),
            networks: Default::default(),
            registries: Default::default(),
        };
        Arc::new(DockerExecutor::new(config, shims()))
    }

    fn place(&self) -> BoxFuture<'_, Place> {
        let image = self.image.name().to_owned();
        let kind = Kind::Docker(v1::DockerExecutor { image, ..Default::default() });
        let wanted = v1::Executor { kind: Some(kind) };
        let executor = self.executor();
        async move { executor.prepare(&wanted, &NoNotes).await.unwrap() }.boxed()
    }

    fn left<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, String> {
        let filter = format!("label=baton.attempt={}", dir.display());
        async move { docker::list(&filter) }.boxed()
    }
}

/// This host, as another one sees it.
pub(crate) struct Ssh {
    server: Server,
}

impl Ssh {
    /// None, said loudly, without an SSH server.
    pub(crate) fn find() -> Option<Self> {
        Some(Self { server: Server::start(&[])? })
    }

    fn target(&self) -> TargetConfig {
        TargetConfig {
            address: Address { host: "127.0.0.1".to_owned(), port: self.server.port() },
            user: Server::user(),
            login: Login::Key(self.server.key()),
            known_hosts: self.server.known_hosts(),
            jump: None,
            labels: Default::default(),
            slots: 1,
            base: self.server.path("base").display().to_string(),
            workspaces: None,
        }
    }
}

impl Backend for Ssh {
    fn executor(&self) -> Arc<dyn Executor> {
        let targets = [("target".to_owned(), self.target())].into();
        Arc::new(SshExecutor::new(&targets, "target", shims()))
    }

    fn place(&self) -> BoxFuture<'_, Place> {
        let executor = self.executor();
        async move { executor.prepare(&v1::Executor::default(), &NoNotes).await.unwrap() }.boxed()
    }

    fn left<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, String> {
        async move {
            let kept = std::fs::read_to_string(dir.join("remote.json")).unwrap_or_default();
            let token = kept.split("\"token\":\"").nth(1).and_then(|rest| rest.split('"').next());
            let Some(token) = token else { return String::new() };
            let folder = self.server.path("base/attempts").join(format!("7-{token}"));
            // What reads the output needs a moment to notice that nobody listens.
            let start = Instant::now();
            while !Server::left(&folder).is_empty() && start.elapsed() < PATIENCE {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            let left = Server::left(&folder);
            if folder.exists() { format!("{}\n{left}", folder.display()) } else { left }
        }
        .boxed()
    }
}
