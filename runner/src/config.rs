//! How a runner is set up.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::OsString,
    path::PathBuf,
    time::Duration,
};

use baton_client::Endpoint;

use crate::{
    executor::{docker::DockerConfig, ssh::TargetConfig},
    source::git::GitConfig,
};

/// How a runner is set up.
#[derive(Clone, Debug)]
pub struct Config {
    /// Everything it keeps is in here: its identity and the attempts it holds.
    pub data_dir: PathBuf,
    /// The coordinators, and the token for them.
    pub endpoint: Endpoint,
    /// A name for people; best the host's.
    pub name: String,
    /// What it offers, such as `gpu` or `os=linux`.
    pub labels: BTreeSet<String>,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// The program and first arguments that start a shim, such as `baton shim`.
    pub shim_command: Vec<OsString>,
    /// What every job's environment starts from. Nothing else of the runner's
    /// own environment reaches a job.
    pub base_env: BTreeMap<String, String>,
    /// Time between SIGTERM and SIGKILL when a job is cancelled.
    pub stop_grace: Duration,
    /// The most bytes that an unpacked source may have.
    pub unpack_limit: u64,
    /// The most bytes that the artifacts of a job may have.
    pub artifact_bytes: u64,
    /// The most files, folders and links that they may be.
    pub artifact_files: u64,
    /// The most bytes that all caches together may have.
    pub cache_limit: u64,
    /// Bytes of folders that earlier jobs brought which are kept for later ones.
    pub chunk_limit: u64,
    /// How often it looks at itself and its executors.
    pub health_interval: Duration,
    /// Bytes that must be free on the disk of `data_dir`: with less it takes no jobs.
    pub min_free: u64,
    /// It takes one job and is gone after that.
    pub ephemeral: bool,
    /// Jobs may be processes of this host.
    pub local: bool,
    /// The Docker engine, if jobs may have containers.
    pub docker: Option<DockerConfig>,
    /// The folder below which jobs find workspaces; none: they get none.
    pub workspaces: Option<PathBuf>,
    /// What is fetched with git, and how.
    pub git: GitConfig,
    /// The hosts that jobs may run on besides, by name.
    pub ssh: BTreeMap<String, TargetConfig>,
    /// How many files a job may have open at first, within the limit that this process has;
    /// none for as many as this process.
    pub job_open_files: Option<u64>,
}

impl Config {
    /// The defaults.
    #[must_use]
    pub fn new(data_dir: PathBuf, endpoint: Endpoint, name: String) -> Self {
        Self {
            data_dir,
            endpoint,
            name,
            labels: BTreeSet::new(),
            slots: 2,
            shim_command: Vec::new(),
            base_env: BTreeMap::new(),
            stop_grace: Duration::from_secs(10),
            unpack_limit: 4 * 1024 * 1024 * 1024,
            artifact_bytes: 10 << 30,
            artifact_files: 100_000,
            cache_limit: 20 << 30,
            chunk_limit: 10 * 1024 * 1024 * 1024,
            health_interval: Duration::from_secs(30),
            min_free: 256 * 1024 * 1024,
            ephemeral: false,
            local: true,
            docker: None,
            workspaces: None,
            git: GitConfig::default(),
            ssh: BTreeMap::new(),
            job_open_files: None,
        }
    }
}
