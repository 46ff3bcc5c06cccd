//! Runs jobs as processes of this host, each under a shim that outlives the
//! runner. Starting one and finding it again is here; what is said to the shim
//! and what is left of it when it dies is in the modules below.
//!
//! Nothing in here enforces a limit: the shim does, also with no runner there.

mod attach;
mod leftovers;
mod locate;

use std::{
    ffi::OsString,
    fs::OpenOptions,
    io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use futures::future::{BoxFuture, FutureExt as _};
use tokio::time::timeout;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

use self::{
    attach::{Attachment, Connection},
    locate::{Found, locate, read_state},
};
use super::{AttemptDir, Execution, Executor, ExecutorError, Launch, Recovered};
use crate::shim::{Report, record};

/// How long a living shim may take to answer before it is asked again.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a shim may hang up on a runner that has found it.
const HANG_UPS: usize = 3;

/// Runs jobs as processes of this host.
///
/// Each job gets a shim, a small process of its own session that survives the
/// runner and holds everything the job needs: its pipes, its limits, its exit.
/// All they share is the attempt's folder:
///
/// | file | written by | |
/// |---|---|---|
/// | `launch.json` | executor | what to start; removed by the shim once it has |
/// | `shim.lock` | shim | locked while the shim lives |
/// | `state.json` | shim | a start was tried: when, during which boot, as which process |
/// | `control.sock` | shim | where a runner attaches |
/// | `spool` | shim | the output |
/// | `exit.json` | shim | how it ended, written last |
/// | `shim.log` | shim | its standard error, empty unless it failed |
///
/// A job's processes carry `BATON_ATTEMPT_DIR` with the folder's canonical path
/// in their environment. Besides that they get exactly [`Launch::env`].
///
/// Jobs and shims run as the runner's user. A job could therefore end its shim
/// if it wanted to; that shows as [`Progress::Died`](super::Progress::Died) and has every process of
/// the job killed.
///
/// Dropping the executor or an [`Execution`] leaves the processes running.
#[derive(Debug)]
pub struct LocalExecutor {
    shim_command: Vec<OsString>,
    patience: Duration,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_on_drop: DropGuard,
}

impl LocalExecutor {
    /// An executor whose shims are started with `shim_command`, an absolute
    /// path and arguments such as `/usr/bin/baton shim`, to which the
    /// attempt's folder is added.
    #[must_use]
    pub fn new(shim_command: Vec<OsString>) -> Self {
        let stop = CancellationToken::new();
        let stop_on_drop = stop.clone().drop_guard();
        Self {
            shim_command,
            patience: PATIENCE,
            tasks: TaskTracker::new(),
            stop,
            _stop_on_drop: stop_on_drop,
        }
    }

    /// Waits this long, not ten seconds, for a shim that lives but does not
    /// answer before [`Executor::recover`] says that it does not know yet.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    async fn start_in(&self, dir: &Path, launch: &Launch) -> Result<Execution, ExecutorError> {
        let dir = canonical(dir)?;
        record::write(&dir, record::LAUNCH, launch, false).map_err(io_error("write the launch"))?;
        let mut connection = self.spawn_shim(&dir)?;
        match connection.next().await {
            Ok(Some(Report::Started(at))) => Ok(self.serve(dir, at, Found::Live(connection))),
            Ok(Some(Report::Failed(reason))) => {
                withdraw(&dir)?;
                Err(ExecutorError::Shim(reason))
            }
            // It died, but may have come to start the process before.
            _ => match self.recover_in(dir.clone()).await? {
                Recovered::Started(execution) => Ok(execution),
                Recovered::NotStarted => Err(ExecutorError::Shim(format!(
                    "it ended at once, see {}",
                    dir.join(record::LOG).display()
                ))),
            },
        }
    }

    async fn recover_in(&self, dir: PathBuf) -> Result<Recovered, ExecutorError> {
        for _ in 0..HANG_UPS {
            let (started_at, found) = match locate(&dir, self.patience).await? {
                Found::Nothing(_lock) => {
                    // A shim that is late finds nothing to launch.
                    withdraw(&dir)?;
                    return Ok(Recovered::NotStarted);
                }
                Found::Live(mut connection) => {
                    match timeout(self.patience, connection.next()).await {
                        Ok(Ok(Some(Report::Started(at)))) => (at, Found::Live(connection)),
                        // It has just ended.
                        Ok(_) => continue,
                        Err(_) => {
                            return Err(ExecutorError::Shim("it lives, but is silent".to_owned()));
                        }
                    }
                }
                found => (recorded_start(&dir)?, found),
            };
            return Ok(Recovered::Started(self.serve(dir, started_at, found)));
        }
        Err(ExecutorError::Shim("it lives, but hangs up".to_owned()))
    }

    /// Starts the shim, connected to this process through its standard input.
    fn spawn_shim(&self, dir: &Path) -> Result<Connection, ExecutorError> {
        let failed = io_error("start the shim");
        let (program, arguments) = self
            .shim_command
            .split_first()
            .ok_or_else(|| ExecutorError::Shim("its command is empty".to_owned()))?;
        let (ours, theirs) = UnixStream::pair().map_err(&failed)?;
        let log = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(dir.join(record::LOG))
            .map_err(&failed)?;
        #[expect(clippy::disallowed_methods, reason = "the one place that starts a shim")]
        let mut command = tokio::process::Command::new(program);
        command
            .args(arguments)
            .arg(dir)
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::from(log));
        let mut shim = command.spawn().map_err(&failed)?;
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            // Reaps it. Dropped unfinished, tokio reaps it in the background.
            stop.run_until_cancelled(shim.wait()).await
        });
        Connection::from_std(ours).map_err(failed)
    }

    fn serve(&self, dir: PathBuf, started_at: u64, found: Found) -> Execution {
        let (attachment, execution) = Attachment::new(dir, started_at, self.patience);
        let stop = self.stop.clone();
        self.tasks.spawn(async move { stop.run_until_cancelled(attachment.run(found)).await });
        execution
    }
}

impl Executor for LocalExecutor {
    fn start<'a>(
        &'a self,
        dir: &'a AttemptDir,
        launch: &'a Launch,
    ) -> BoxFuture<'a, Result<Execution, ExecutorError>> {
        self.start_in(dir.path(), launch).boxed()
    }

    fn recover<'a>(
        &'a self,
        dir: &'a AttemptDir,
    ) -> BoxFuture<'a, Result<Recovered, ExecutorError>> {
        async move {
            match dir.path().canonicalize() {
                Ok(dir) => self.recover_in(dir).await,
                // No folder, so no launch either.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Recovered::NotStarted),
                Err(error) => Err(io_error("find the attempt's folder")(error)),
            }
        }
        .boxed()
    }
}

fn withdraw(dir: &Path) -> Result<(), ExecutorError> {
    match std::fs::remove_file(dir.join(record::LAUNCH)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(io_error("withdraw the launch")(error))
        }
        _ => Ok(()),
    }
}

fn canonical(dir: &Path) -> Result<PathBuf, ExecutorError> {
    dir.canonicalize().map_err(io_error("find the attempt's folder"))
}

fn recorded_start(dir: &Path) -> Result<u64, ExecutorError> {
    Ok(read_state(dir)?.map_or(0, |state| state.started_at))
}

fn io_error(action: &'static str) -> impl Fn(io::Error) -> ExecutorError {
    move |source| ExecutorError::Io { action: action.to_owned(), source }
}
