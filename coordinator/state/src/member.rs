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
    /// The newest commands that it can carry out.
    pub level: Level,
}

/// Which commands a version of Baton knows. A command is proposed only when every
/// member knows it, so that two adjacent versions can be in one cluster.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Level(pub u32);

impl Level {
    /// Of this version of Baton. Grows by one with each version that has new commands,
    /// or new fields in old ones.
    pub const NEWEST: Self = Self(4);
}
