//! The coordinators as they know each other. Who of them votes is Raft's to say.

use serde::{Deserialize, Serialize};

/// A coordinator that belongs to the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Member {
    /// What it called itself when its data folder was made: a folder that was lost
    /// and made anew has another one.
    pub instance: String,
    /// Where it serves the API.
    pub address: String,
    /// Where it serves the other coordinators.
    pub peer_address: String,
    /// Baton's version on it.
    pub version: String,
}
