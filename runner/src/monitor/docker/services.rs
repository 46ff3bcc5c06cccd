//! The containers beside a job's, on a network that only they and the job share.

use std::{collections::HashMap, path::PathBuf, time::Duration};

use bollard::{
    Docker,
    errors::Error,
    models::{
        ContainerCreateBody, EndpointSettings, HealthConfig, HealthStatusEnum, HostConfig,
        NetworkCreateRequest, NetworkingConfig,
    },
    query_parameters::{
        CreateContainerOptions, EventsOptions, LogsOptions, RemoveContainerOptions,
    },
};
use futures::StreamExt as _;
use tokio::time::timeout;

use super::creation::{log, variables};
use crate::{
    executor::{
        Names,
        docker::{
            container::{Container, Service},
            engine::{self, describe, is_missing},
        },
    },
    monitor::protocol::Task,
    shim::human,
};

/// Nanoseconds between two looks at a service's health, and for one of them.
const HEALTH_INTERVAL: i64 = 500_000_000;
const HEALTH_TIMEOUT: i64 = 10_000_000_000;

/// How much is told of what a service wrote that did not become ready: lines, and bytes.
const LAST_LINES: usize = 50;
const LAST_BYTES: usize = 16 << 10;
/// How long the engine may take to give it.
const LAST_WITHIN: Duration = Duration::from_secs(5);

/// Why services are not ready.
pub(super) struct NotReady {
    /// For people.
    pub(super) problem: String,
    /// The service at fault, and the last that it wrote.
    pub(super) last_words: Option<(String, String)>,
}

/// The services of one job; nothing when it has none.
pub(super) struct Services {
    docker: Docker,
    services: Vec<Service>,
    /// The engine has an init process.
    init: bool,
    names: Names,
    dir: PathBuf,
    network: String,
}

impl Services {
    pub(super) fn new(docker: &Docker, task: &Task, container: &Container) -> Self {
        let names = task.launch.names.clone();
        Self {
            docker: docker.clone(),
            services: container.services.clone(),
            init: container.engine.init,
            network: format!("baton-{}-{}", names.job, names.lease),
            names,
            dir: task.dir.clone(),
        }
    }

    /// The network that the job has to join.
    pub(super) fn network(&self) -> Option<&str> {
        (!self.services.is_empty()).then_some(&*self.network)
    }

    /// Starts all of them and waits until they are ready.
    ///
    /// # Errors
    /// Which one is not, and why.
    pub(super) async fn start(&self) -> Result<(), NotReady> {
        let Some(network) = self.network() else { return Ok(()) };
        let request = NetworkCreateRequest {
            name: network.to_owned(),
            labels: Some(engine::labels(&self.names, &self.dir)),
            ..NetworkCreateRequest::default()
        };
        let created = self.docker.create_network(request).await;
        created.map_err(|error| NotReady {
            problem: format!("the services' network: {}", describe(&error)),
            last_words: None,
        })?;
        let starts = self.services.iter().map(|service| self.start_one(service));
        futures::future::try_join_all(starts).await.map(drop)
    }

    /// Removes all of them and their network.
    ///
    /// # Errors
    /// For people. Something is left; it can be tried again.
    pub(super) async fn remove(&self) -> Result<(), String> {
        let Some(network) = self.network() else { return Ok(()) };
        for service in &self.services {
            let options = RemoveContainerOptions { force: true, v: true, link: false };
            let name = self.container(service);
            unless_missing(self.docker.remove_container(&name, Some(options)).await)?;
        }
        unless_missing(self.docker.remove_network(network).await)
    }

    async fn start_one(&self, service: &Service) -> Result<(), NotReady> {
        match self.make_ready(service).await {
            Ok(()) => Ok(()),
            Err(problem) => {
                let last_words = timeout(LAST_WITHIN, self.last_words(service)).await;
                let last_words = last_words.ok().map(|words| (service.name.clone(), words));
                Err(NotReady { problem, last_words })
            }
        }
    }

    /// The last whole lines that a service wrote, as far as the engine gives them.
    async fn last_words(&self, service: &Service) -> String {
        let tail = LAST_LINES.to_string();
        let options = LogsOptions { stdout: true, stderr: true, tail, ..LogsOptions::default() };
        let mut pieces = std::pin::pin!(self.docker.logs(&self.container(service), Some(options)));
        let mut written = Vec::new();
        while let Some(Ok(piece)) = pieces.next().await {
            written.extend_from_slice(&piece.into_bytes());
            if written.len() > LAST_BYTES {
                let surplus = written.len() - LAST_BYTES;
                // Part of a line could be part of a value that is masked.
                let line_end = written[surplus..].iter().position(|byte| *byte == b'\n');
                written.drain(..line_end.map_or(written.len(), |end| surplus + end + 1));
            }
        }
        String::from_utf8_lossy(&written).into_owned()
    }

    async fn make_ready(&self, service: &Service) -> Result<(), String> {
        let name = self.container(service);
        let failed = |error: Error| format!("the service {}: {}", service.name, describe(&error));
        let options = CreateContainerOptions { name: Some(name.clone()), ..Default::default() };
        let body = self.body(service);
        self.docker.create_container(Some(options), body).await.map_err(failed)?;
        let started = self.started(service, &name);
        match timeout(service.ready_within, started).await {
            Ok(ready) => ready,
            Err(_) => {
                let limit = human(service.ready_within);
                Err(format!("the service {} is not ready after {limit}", service.name))
            }
        }
    }

    /// Starts one and follows what becomes of it.
    async fn started(&self, service: &Service, name: &str) -> Result<(), String> {
        let failed = |error: Error| format!("the service {}: {}", service.name, describe(&error));
        let filters = HashMap::from([
            ("container".to_owned(), vec![name.to_owned()]),
            ("event".to_owned(), vec!["health_status".to_owned(), "die".to_owned()]),
        ]);
        self.docker.start_container(name, None).await.map_err(failed)?;
        // From its beginning, so that nothing is missed that happened meanwhile.
        let since = Some("1".to_owned());
        let options = EventsOptions { filters: Some(filters), since, until: None };
        let mut events = std::pin::pin!(self.docker.events(Some(options)));
        loop {
            let container = self.docker.inspect_container(name, None).await.map_err(failed)?;
            let state = container.state.unwrap_or_default();
            if state.running == Some(false) {
                let code = state.exit_code.unwrap_or_default();
                return Err(format!(
                    "the service {} ended with exit code {code} before it was ready",
                    service.name
                ));
            }
            match state.health.and_then(|health| health.status) {
                None | Some(HealthStatusEnum::HEALTHY | HealthStatusEnum::NONE) => return Ok(()),
                Some(_) => {}
            }
            match events.next().await {
                Some(event) => drop(event.map_err(failed)?),
                None => return Err(format!("the service {}: the engine is gone", service.name)),
            }
        }
    }

    fn body(&self, service: &Service) -> ContainerCreateBody {
        let alias = EndpointSettings {
            aliases: Some(vec![service.name.clone()]),
            ..EndpointSettings::default()
        };
        let health = (!service.health.is_empty()).then(|| HealthConfig {
            test: Some([&["CMD".to_owned()], &service.health[..]].concat()),
            interval: Some(HEALTH_INTERVAL),
            timeout: Some(HEALTH_TIMEOUT),
            // Until it is ready, which has a limit of its own, it is never unhealthy.
            start_period: i64::try_from(service.ready_within.as_nanos()).ok(),
            ..HealthConfig::default()
        });
        ContainerCreateBody {
            image: Some(service.image.clone()),
            env: Some(variables(&service.env)),
            cmd: (!service.command.is_empty()).then(|| service.command.clone()),
            healthcheck: health,
            labels: Some(engine::labels(&self.names, &self.dir)),
            host_config: Some(HostConfig {
                init: Some(self.init),
                network_mode: Some(self.network.clone()),
                log_config: Some(log()),
                ..HostConfig::default()
            }),
            networking_config: Some(NetworkingConfig {
                endpoints_config: Some(HashMap::from([(self.network.clone(), alias)])),
            }),
            ..ContainerCreateBody::default()
        }
    }

    fn container(&self, service: &Service) -> String {
        format!("{}-{}", self.network, service.name)
    }
}

fn unless_missing(removed: Result<(), Error>) -> Result<(), String> {
    match removed {
        Err(error) if !is_missing(&error) => Err(describe(&error)),
        _ => Ok(()),
    }
}
