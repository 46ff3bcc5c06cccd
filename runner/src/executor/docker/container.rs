//! What a container is made of, with everything settled: what the monitor gets.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

/// A container for a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// The engine that runs it.
    pub engine: Engine,
    /// Its image, which the engine has.
    pub image: String,
    /// In place of the image's; an empty one is none.
    pub entrypoint: Option<Vec<String>>,
    /// In place of the image's.
    pub user: Option<String>,
    /// In place of the engine's usual one.
    pub network: Option<String>,
    /// Folders of the host.
    pub mounts: Vec<Mount>,
    /// Folders in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Containers beside it.
    pub services: Vec<Service>,
}

/// Where an engine is and what it can do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Engine {
    /// `unix:///var/run/docker.sock` or `tcp://host:port`.
    pub host: String,
    /// A folder with `ca.pem`, `cert.pem` and `key.pem`, for TLS.
    pub tls: Option<PathBuf>,
    /// The version of its API that is spoken.
    pub api: (usize, usize),
    /// It has an init process, which passes signals on and reaps.
    pub init: bool,
}

/// A folder of the runner's host inside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mount {
    /// On the host.
    pub source: String,
    /// In the container.
    pub target: String,
    /// It cannot be changed in the container.
    pub read_only: bool,
}

/// A folder in memory inside the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tmpfs {
    /// In the container.
    pub target: String,
    /// Bytes; 0 is the kernel's own limit.
    pub size: u64,
}

/// A container beside the job's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Service {
    /// By which the job finds it.
    pub name: String,
    /// Its image, which the engine has.
    pub image: String,
    /// Variables for it.
    pub env: BTreeMap<String, String>,
    /// In place of the image's; an empty one is the image's.
    pub command: Vec<String>,
    /// Exits with 0 in it when it is ready; an empty one is the image's.
    pub health: Vec<String>,
    /// How long it may take to be ready.
    pub ready_within: Duration,
}
