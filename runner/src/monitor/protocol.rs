//! What the shim and its monitor tell each other: lines of JSON over the socket that
//! is the monitor's standard input.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::executor::{ExitStatus, Launch};

/// A report longer than this is none.
pub(crate) const LONGEST_REPORT: usize = 64 * 1024;

/// What the shim wants of the monitor. The first is [`Order::Start`].
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Order {
    /// Start this.
    Start(Box<Task>),
    /// The job's lease is good until then, as time since the host's boot.
    Renew(Duration),
    /// Send SIGTERM to the job.
    Terminate,
    /// End the job now, and report when nothing of it is left.
    Kill,
}

/// What to start.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    /// The attempt's folder.
    pub(crate) dir: PathBuf,
    /// Of what is in it, the shim keeps the limits of time and output.
    pub(crate) launch: Launch,
}

/// What the monitor tells the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Report {
    /// A line for the job's output.
    Note(String),
    /// The command has ended, and what it left is being brought: it has all the time that
    /// the lease has.
    Bringing,
    /// The last one: nothing of the job is left.
    Ended(Ended),
}

/// How the job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// What became of its main process.
    pub(crate) status: ExitStatus,
    /// It was killed because it needed more memory than it may have.
    pub(crate) out_of_memory: bool,
    /// Processes that had to be killed, as far as it is known.
    pub(crate) killed: u32,
}
