//! What runs a job's process. An executor starts it, and after a restart of the
//! runner finds it again: [`Executor::recover`] is not optional.
//!
//! An executor knows nothing of leases or coordinators.

pub mod local;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt as _};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

/// The folder of one attempt: everything that must survive a restart of the runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AttemptDir(PathBuf);

impl AttemptDir {
    /// The folder at `path`, which need not exist yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The folder itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The job's work folder: where its command starts.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.0.join("work")
    }

    /// The job's own folder for temporary files.
    #[must_use]
    pub fn tmp(&self) -> PathBuf {
        self.0.join("tmp")
    }

    /// The output, in the format of [`baton_proto::spool`].
    #[must_use]
    pub fn spool(&self) -> PathBuf {
        self.0.join("spool")
    }
}

/// What to run and within which limits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<String>,
    /// The process's whole environment.
    pub env: BTreeMap<String, String>,
    /// SIGTERM to the whole tree after this.
    pub soft_timeout: Duration,
    /// SIGKILL to the whole tree after this.
    pub hard_timeout: Duration,
    /// Bytes of stdout and stderr together that are kept; what follows is dropped.
    pub output_limit: u64,
    /// The tree is killed when this much time has passed since the last
    /// [`Control::Renew`], which may name another: the lease is then about to
    /// be given away. None: never, whatever a renewal says.
    pub lease_limit: Option<Duration>,
    /// When the renewal was asked for that the lease rests on, as time since
    /// the host's boot (`CLOCK_BOOTTIME`). Of no meaning without `lease_limit`.
    pub lease_renewed: Duration,
    /// The soft limit of open files that it begins with; none for the shim's. An older
    /// version has not written it.
    #[serde(default)]
    pub open_files: Option<u64>,
}

/// How a process ended, as recorded by the shim.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// What became of the process itself.
    pub status: ExitStatus,
    /// Why it was stopped, if it was.
    pub stopped: Option<StopCause>,
    /// Nothing of its tree is left: every descendant was waited for.
    pub tree_gone: bool,
    /// Processes that were sent SIGKILL to get there.
    pub killed: u32,
    /// Microseconds since the epoch.
    pub finished_at: u64,
}

/// What became of the process itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ExitStatus {
    /// It exited with this code.
    Exited(i32),
    /// This signal ended it.
    Signaled(i32),
    /// It could not be started: 127 for a command that is not there, 126 for
    /// one that cannot be executed, as shells say it.
    NotStarted {
        /// 126 or 127.
        code: i32,
        /// Why, for people.
        message: String,
    },
    /// It could not be started because the host ran out of something that has
    /// nothing to do with it, such as processes, memory or open files.
    NoResources {
        /// What it ran out of, for people.
        message: String,
    },
}

/// Why a process was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StopCause {
    /// It reached its soft limit.
    SoftTimeout,
    /// It reached its hard limit.
    HardTimeout,
    /// Somebody cancelled the job.
    Cancelled,
    /// The lease ran out or was taken away.
    LeaseLost,
}

/// What can be asked of a running process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Control {
    /// Stop the tree: SIGTERM now, SIGKILL after `grace`. Asking again does no harm.
    Stop {
        /// Why.
        cause: StopCause,
        /// Time between the two signals.
        grace: Duration,
    },
    /// The lease was renewed: it is good for `limit` from `at`, however long this
    /// takes to arrive.
    Renew {
        /// When the renewal was asked for, as time since the host's boot
        /// (`CLOCK_BOOTTIME`).
        at: Duration,
        /// Takes the place of [`Launch::lease_limit`], if there is one.
        limit: Duration,
    },
}

/// A process that runs, or ran and was not yet cleaned up.
#[derive(Debug)]
pub struct Execution {
    /// Microseconds since the epoch at which the process started.
    pub started_at: u64,
    /// The spool's length in bytes as it grows.
    pub spool_length: watch::Receiver<u64>,
    /// [`Progress::is_over`] when the process and its tree are gone and the spool
    /// is complete.
    pub progress: watch::Receiver<Progress>,
    /// Requests to it.
    pub control: mpsc::Sender<Control>,
}

/// How far an execution is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// The process or something of its tree is alive.
    Running,
    /// All gone, output complete.
    Done(Exit),
    /// What watched over the process died with no record of an exit. The output
    /// may lack its end.
    Died {
        /// Every process that could be found was killed and is gone. False:
        /// something of the tree may run, and is tried to be killed again.
        tree_gone: bool,
        /// How many that were: by this process of the runner, if an earlier one
        /// had begun.
        killed: u32,
    },
}

impl Progress {
    /// Nothing of the process or its tree is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(self, Self::Done(_) | Self::Died { tree_gone: true, .. })
    }
}

/// What [`Executor::recover`] found.
#[derive(Debug)]
pub enum Recovered {
    /// The process had been started: it runs or has ended.
    Started(Execution),
    /// It never was, and now never will be.
    NotStarted,
}

/// An executor could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum ExecutorError {
    /// A file or process operation failed.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was tried.
        action: String,
        /// Why it failed.
        source: std::io::Error,
    },
    /// The shim ended before it reported a start.
    #[error("the shim did not start: {0}")]
    Shim(String),
}

/// Something that can run a job's process.
pub trait Executor: Send + Sync {
    /// Starts the process in `dir`, whose work and tmp folders exist and whose
    /// spool may already hold frames. Returns when the process runs.
    ///
    /// # Errors
    /// [`ExecutorError`]. The process may run all the same:
    /// [`Executor::recover`] tells.
    fn start<'a>(
        &'a self,
        dir: &'a AttemptDir,
        launch: &'a Launch,
    ) -> BoxFuture<'a, Result<Execution, ExecutorError>>;

    /// Finds what was started in `dir` before.
    ///
    /// # Errors
    /// [`ExecutorError`] when it is not known yet. It proves nothing: what was
    /// started may run on. Ask again.
    fn recover<'a>(
        &'a self,
        dir: &'a AttemptDir,
    ) -> BoxFuture<'a, Result<Recovered, ExecutorError>>;

    /// Lets go of everything that runs, for good; returns when nothing follows it any
    /// more. What is asked of it later may fail.
    fn detach(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}
