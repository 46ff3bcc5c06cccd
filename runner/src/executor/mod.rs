//! What runs a job's process. An executor starts it, and after a restart of the
//! runner finds it again: [`Executor::recover`] is not optional.
//!
//! An executor knows nothing of leases or coordinators.

/// How an executor, whose `shims` stand by a monitor for each job, starts jobs, finds them
/// again and lets go of them.
macro_rules! by_shims {
    () => {
        fn start<'a>(
            &'a self,
            dir: &'a AttemptDir,
            launch: &'a Launch,
        ) -> BoxFuture<'a, Result<Execution, ExecutorError>> {
            self.shims.start(dir, launch)
        }

        fn recover<'a>(
            &'a self,
            dir: &'a AttemptDir,
        ) -> BoxFuture<'a, Result<Recovered, ExecutorError>> {
            self.shims.recover(dir)
        }

        fn detach(&self) -> BoxFuture<'_, ()> {
            self.shims.detach()
        }
    };
}

mod choice;
pub mod docker;
pub mod local;
pub mod ssh;

pub use choice::Executors;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use baton_proto::v1;
use futures::future::{BoxFuture, FutureExt as _};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use crate::{
    collect::{Leaves, OUTPUT_NAME},
    source::workspace::Workspace,
};

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

    /// Where a job of this host writes what it says by names.
    #[must_use]
    pub fn output(&self) -> PathBuf {
        self.tmp().join(OUTPUT_NAME)
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
    /// Where the command starts instead of in the attempt's work folder, if at all. It is
    /// neither the attempt's nor removed with it.
    #[serde(default)]
    pub workspace: Option<Workspace>,
    /// The process's whole environment.
    pub env: BTreeMap<String, String>,
    /// The names of those variables whose values are masked in the output. An older
    /// version has not written it.
    #[serde(default)]
    pub masks: BTreeSet<String>,
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
    /// Where the command runs.
    pub place: Place,
    /// What its processes may use together.
    pub resources: Resources,
    /// Names of the job for people who find something of it.
    pub names: Names,
    /// What it leaves behind that is wanted. An older version has not written it.
    #[serde(default)]
    pub leaves: Leaves,
}

/// Where a command runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Place {
    /// As a process of this host.
    #[default]
    Host,
    /// In a container.
    Container(Box<docker::container::Container>),
    /// On another host.
    Remote(Box<ssh::remote::Remote>),
}

/// What the processes of a job may use together. None is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Thousandths of a processor.
    pub cpu_millis: Option<u32>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Processes and threads at once.
    pub processes: Option<u32>,
    /// Of each process.
    pub open_files: Option<u32>,
}

/// What marks everything that belongs to an attempt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Names {
    /// The runner's id.
    pub runner: String,
    /// The job's id.
    pub job: String,
    /// The lease's number.
    pub lease: u64,
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
    /// It was killed because it needed more memory than it may have.
    #[serde(default)]
    pub out_of_memory: bool,
    /// What held each limit that was asked for, in the words of the API.
    #[serde(default)]
    pub limits: BTreeMap<String, String>,
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
    /// What may run elsewhere could not be asked about.
    #[error("{0}")]
    Elsewhere(String),
}

/// A job cannot be started by this executor now, or at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Unready {
    /// A stable word for programs, such as `IMAGE`, `NOT_ALLOWED` or [`EXECUTOR_FAILED`].
    pub reason: &'static str,
    /// For people: what is wrong, and what to do.
    pub message: String,
    /// Another attempt may do better.
    pub transient: bool,
}

impl Unready {
    /// It is the executor that does not work, not the job that asks for too much.
    pub(crate) fn is_of_executor(&self) -> bool {
        let reasons = [EXECUTOR_FAILED, ssh::TARGET_UNREACHABLE, ssh::TARGET_LOGIN, ssh::HOST_KEY];
        reasons.contains(&self.reason)
    }
}

/// The reason of [`Unready`] when it is the executor that does not work.
pub const EXECUTOR_FAILED: &str = "EXECUTOR";

/// Adds lines to a job's output before it starts.
pub trait Notes: Send + Sync {
    /// Adds a line.
    fn add<'a>(&'a self, line: &'a str) -> BoxFuture<'a, ()>;
}

/// What remains of an attempt elsewhere when what stood for it on this host died without
/// a word.
pub trait Aftermath: Send + Sync + std::fmt::Debug {
    /// Ends and removes it; how many processes, or containers, were still there. Asked
    /// when no process of the attempt is left on this host; asked again, it does no harm.
    ///
    /// # Errors
    /// For people. It is not proven that nothing runs; ask again.
    fn end<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, Result<u32, String>>;
}

/// Of a job that is nowhere but on this host.
#[derive(Clone, Copy, Debug)]
pub struct NothingElsewhere;

impl Aftermath for NothingElsewhere {
    fn end<'a>(&'a self, _: &'a Path) -> BoxFuture<'a, Result<u32, String>> {
        std::future::ready(Ok(0)).boxed()
    }
}

/// Something that can run a job's process.
pub trait Executor: Send + Sync {
    /// Gets ready what a start needs and what may take long, such as an image, and says
    /// where the command will run. Nothing is left when it is dropped unfinished that a
    /// later attempt would mind.
    ///
    /// # Errors
    /// [`Unready`]
    fn prepare<'a>(
        &'a self,
        wanted: &'a v1::Executor,
        notes: &'a dyn Notes,
    ) -> BoxFuture<'a, Result<Place, Unready>> {
        let _ = (wanted, notes);
        std::future::ready(Ok(Place::Host)).boxed()
    }

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

    /// Whether jobs can be started now: what it talks to answers, and how it calls its
    /// version, if there is such a thing.
    ///
    /// # Errors
    /// For people; the same for the same problem.
    fn check(&self) -> BoxFuture<'_, Result<String, String>> {
        std::future::ready(Ok(String::new())).boxed()
    }

    /// Removes what the runner with this id has elsewhere that belongs to no lease it
    /// holds; how much that was. Whether one is held is asked after looking.
    ///
    /// # Errors
    /// For people.
    fn sweep<'a>(
        &'a self,
        runner: &'a str,
        is_held: &'a (dyn Fn(u64) -> bool + Sync),
    ) -> BoxFuture<'a, Result<u32, String>> {
        let _ = (runner, is_held);
        std::future::ready(Ok(0)).boxed()
    }

    /// Lets go of everything that runs, for good; returns when nothing follows it any
    /// more. What is asked of it later may fail.
    fn detach(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}
