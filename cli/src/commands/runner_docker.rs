//! The runner's settings for containers.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
};

use baton_runner::executor::docker::{DockerConfig, Registry};
use serde::Deserialize;

use crate::exit::UsageError;

const SOCKET: &str = "unix:///var/run/docker.sock";

/// `[docker]` in the file.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DockerSettings {
    host: Option<String>,
    tls: Option<PathBuf>,
    mounts: Vec<PathBuf>,
    networks: BTreeSet<String>,
    registries: BTreeMap<String, RegistrySettings>,
}

/// `[docker.registries."HOST"]` in the file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RegistrySettings {
    username: String,
    password_file: PathBuf,
}

impl DockerSettings {
    /// What they say.
    ///
    /// # Errors
    /// [`UsageError`] with the key that is wrong.
    pub(super) fn config(self) -> Result<DockerConfig, UsageError> {
        let host = self.host.unwrap_or_else(|| SOCKET.to_owned());
        let is_tcp = host.strip_prefix("tcp://").is_some_and(|address| address.contains(':'));
        if !is_tcp && !host.starts_with("unix:///") {
            let text = format!("docker.host: {host:?} is neither unix:///PATH nor tcp://HOST:PORT");
            return Err(UsageError(text));
        }
        if let Some(relative) = self.mounts.iter().find(|mount| !mount.is_absolute()) {
            let text = format!("docker.mounts: {} is no absolute path", relative.display());
            return Err(UsageError(text));
        }
        let registry = |(host, settings): (String, RegistrySettings)| {
            let RegistrySettings { username, password_file } = settings;
            (host, Registry { username, password_file })
        };
        Ok(DockerConfig {
            host,
            tls: self.tls,
            mounts: self.mounts,
            networks: self.networks,
            registries: self.registries.into_iter().map(registry).collect(),
        })
    }
}
