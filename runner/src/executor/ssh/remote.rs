//! Where a job runs on another host, with everything settled: what the monitor gets, and
//! what is kept in the attempt's folder. No secret is in here, only where one is.

use std::{fmt, path::PathBuf};

use serde::{Deserialize, Serialize};

/// A host, the way to it, and a place on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remote {
    /// The target's name in the runner's settings.
    pub target: String,
    /// The hosts to connect to, each through the one before; the last is the target.
    pub hops: Vec<Hop>,
    /// The folder on the target for everything of Baton's; from the user's home when it
    /// does not begin with a slash.
    pub base: String,
    /// Tells this attempt from every other.
    pub token: String,
}

/// One host on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// Its name or address.
    pub host: String,
    /// The port of its SSH server.
    pub port: u16,
    /// Who to be there.
    pub user: String,
    /// How to show that.
    pub login: Login,
    /// The file with the key that it must show.
    pub known_hosts: PathBuf,
}

/// How a user logs in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Login {
    /// With the private key in this file.
    Key(PathBuf),
    /// With a key of the agent that listens at this socket.
    Agent(PathBuf),
}

impl fmt::Display for Hop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.user, self.host)?;
        if self.port == 22 { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}
