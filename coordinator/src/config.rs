//! How a coordinator is set up.

use std::{net::SocketAddr, path::PathBuf};

use crate::{backup::Schedule, dispatch::Timing, retention::Retention};

/// How a coordinator is set up.
#[derive(Clone)]
pub struct Config {
    /// Everything it keeps is in here.
    pub data_dir: PathBuf,
    /// Where it serves the API; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where it serves the other coordinators; port 0 takes a free one.
    pub peer_listen: SocketAddr,
    /// What others are told to reach the API, `host:port`; `listen` if none.
    pub address: Option<String>,
    /// What other coordinators are told to reach this one; `peer_listen` if none.
    pub peer_address: Option<String>,
    /// Coordinators of the cluster to join, `host:port` of their API, while the data
    /// folder belongs to none. Without any, a cluster of its own begins.
    pub join: Vec<String>,
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
    /// The most bytes that the files of a folder may have.
    pub tree_limit: u64,
    /// New work is refused when the data disk has fewer bytes free than this.
    pub min_free_bytes: u64,
    /// Entries of the Raft log between two snapshots.
    pub snapshot_every: u64,
    /// Backups that the leader makes by itself.
    pub backups: Option<Schedule>,
}

impl Config {
    /// The defaults, for a cluster of its own.
    #[must_use]
    pub fn new(data_dir: PathBuf, listen: SocketAddr, token: String) -> Self {
        Self {
            data_dir,
            listen,
            peer_listen: next_port(listen),
            address: None,
            peer_address: None,
            join: Vec::new(),
            allow_insecure_listen: false,
            token,
            timing: Timing::default(),
            retention: Retention::default(),
            archive_limit: 500 * 1024 * 1024,
            tree_limit: 4 * 1024 * 1024 * 1024,
            min_free_bytes: 128 * 1024 * 1024,
            snapshot_every: 20_000,
            backups: None,
        }
    }
}

/// Where the other coordinators are served if nobody says: one port further.
#[must_use]
pub fn next_port(listen: SocketAddr) -> SocketAddr {
    let port = match listen.port() {
        0 | u16::MAX => 0,
        port => port + 1,
    };
    SocketAddr::new(listen.ip(), port)
}
