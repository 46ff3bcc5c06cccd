//! What a caller asked for, checked and with every default filled in.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

/// A job as asked for. Never changes once accepted. Durations are milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// A text for people.
    pub name: String,
    /// The project it belongs to.
    pub project: String,
    /// Variables for the process.
    pub env: BTreeMap<String, String>,
    /// What a runner must offer.
    pub requirements: Requirements,
    /// Higher starts first.
    pub priority: i32,
    /// SIGTERM after this.
    pub soft_timeout: u64,
    /// SIGKILL after this.
    pub timeout: u64,
    /// How long it may wait for a runner.
    pub queue_timeout: Option<u64>,
    /// How many leases it may use.
    pub attempts: u32,
    /// What happens when its runner is lost.
    pub on_lost: OnLost,
    /// The code to bring along.
    pub source: Option<Archive>,
    /// Bytes of output kept per attempt.
    pub output_limit: u64,
}

/// What a runner must offer to take a job. Jobs with equal requirements share a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirements {
    /// Labels that the runner must all have.
    pub labels: BTreeSet<String>,
}

impl fmt::Display for Requirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, label) in self.labels.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{label}")?;
        }
        Ok(())
    }
}

/// What happens to a job whose runner is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnLost {
    /// Start it again, while attempts are left.
    #[default]
    Requeue,
    /// End it as lost.
    Fail,
    /// Keep the lease until the runner is back or the job is cancelled.
    Wait,
}

/// An uploaded archive, named by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// BLAKE3, 64 hexadecimal digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}
