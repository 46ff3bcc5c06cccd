//! Runs jobs as processes of this host, each under a shim that outlives the
//! runner. Starting one and finding it again is here; what is said to the shim
//! and what is left of it when it dies is in the modules below.
//!
//! Nothing in here enforces a limit: the shim does, also with no runner there.

mod attach;
mod leftovers;
mod locate;
mod vigil;

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io,
    os::{fd::OwnedFd, unix::fs::OpenOptionsExt as _, unix::net::UnixStream},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
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
    leftovers::Removal,
    locate::{Found, locate, read_state},
};
use super::{
    Aftermath, AttemptDir, Execution, Executor, ExecutorError, Launch, NothingElsewhere, Recovered,
};
use crate::{
    shim::{Report, record},
    untrusted,
};

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
/// if it wanted to; that shows as [`Progress::Died`] and has every process of
/// the job killed. So has stopping it: a shim that does not answer is woken,
/// and killed with the job if that does not help.
///
/// Dropping the executor or an [`Execution`] leaves the processes running.
#[derive(Debug)]
pub struct LocalExecutor {
    shim_command: Vec<OsString>,
    patience: Duration,
    aftermath: Arc<dyn Aftermath>,
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
            aftermath: Arc::new(NothingElsewhere),
            tasks: TaskTracker::new(),
            stop,
            _stop_on_drop: stop_on_drop,
        }
    }

    /// Waits this long, not ten seconds, for a shim that lives but does not
    /// answer before it is woken, and as long again before [`Executor::recover`]
    /// says that it does not know yet, or the job of a stopped one is ended. Says
    /// after as long that a tree does not end, too.
    #[must_use]
    pub fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Of jobs that run elsewhere, with a monitor here that stands for them: `aftermath`
    /// ends what one left that died.
    #[must_use]
    pub fn with_aftermath(mut self, aftermath: Arc<dyn Aftermath>) -> Self {
        self.aftermath = aftermath;
        self
    }

    async fn start_in(&self, dir: &Path, launch: &Launch) -> Result<Execution, ExecutorError> {
        let dir = canonical(dir)?;
        record::write(&dir, record::LAUNCH, launch, false).map_err(io_error("write the launch"))?;
        let mut connection = self.spawn_shim(&dir)?;
        loop {
            match self.greet(&dir, &mut connection).await {
                Greeted::Started(at) => return Ok(self.serve(dir, at, Found::Live(connection))),
                Greeted::Failed(reason) => {
                    withdraw(&dir)?;
                    return Err(ExecutorError::Shim(reason));
                }
                Greeted::Stopped => return self.serve_stopped(dir),
                Greeted::Slow => {}
                // It died, but may have come to start the process before.
                Greeted::Ended => break,
            }
        }
        match self.recover_in(dir.clone()).await? {
            Recovered::Started(execution) => Ok(execution),
            Recovered::NotStarted => Err(ExecutorError::Shim(format!(
                "it ended at once, see {}",
                dir.join(record::LOG).display()
            ))),
        }
    }

    async fn recover_in(&self, dir: PathBuf) -> Result<Recovered, ExecutorError> {
        for _ in 0..HANG_UPS {
            let (started_at, found) = match locate(&dir, self.patience).await? {
                Found::Nothing(lock) => {
                    // A shim that is late finds nothing to launch.
                    withdraw(&dir)?;
                    return self.remains(dir, Some(lock)).await;
                }
                Found::Live(mut connection) => match self.greet(&dir, &mut connection).await {
                    Greeted::Started(at) => (at, Found::Live(connection)),
                    Greeted::Failed(_) | Greeted::Ended => continue,
                    Greeted::Slow => {
                        return Err(ExecutorError::Shim("it lives, but is silent".to_owned()));
                    }
                    Greeted::Stopped => return self.serve_stopped(dir).map(Recovered::Started),
                },
                found => (recorded_start(&dir)?, found),
            };
            return Ok(Recovered::Started(self.serve(dir, started_at, found)));
        }
        Err(ExecutorError::Shim("it lives, but hangs up".to_owned()))
    }

    /// Has a shim say when its job started, and wakes it if that takes too long.
    async fn greet(&self, dir: &Path, connection: &mut Connection) -> Greeted {
        let mut greeting = timeout(self.patience, connection.next()).await;
        if greeting.is_err() {
            leftovers::wake(dir).await;
            greeting = timeout(self.patience, connection.next()).await;
        }
        match greeting {
            Ok(Ok(Some(Report::Started(at)))) => Greeted::Started(at),
            Ok(Ok(Some(Report::Failed(reason)))) => Greeted::Failed(reason),
            Ok(_) => Greeted::Ended,
            Err(_) if leftovers::is_stopped(dir).await => Greeted::Stopped,
            Err(_) => Greeted::Slow,
        }
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

    /// Ends a job whose shim somebody keeps stopped.
    fn serve_stopped(&self, dir: PathBuf) -> Result<Execution, ExecutorError> {
        let state = read_state(&dir)?;
        let started_at = state.as_ref().map_or(0, |state| state.started_at);
        let removal = Removal::new(&dir, state, None);
        Ok(self.serve(dir, started_at, Found::Dead(removal)))
    }

    /// Looks for processes of an attempt that left no record of a start. If there
    /// were any, it was started, and the job has removed the record.
    async fn remains(&self, dir: PathBuf, lock: Option<File>) -> Result<Recovered, ExecutorError> {
        let mut removal = Removal::new(&dir, None, lock);
        let nothing_is_left = removal.within(self.patience).await;
        if nothing_is_left && removal.killed() == 0 {
            let elsewhere = self.aftermath.end(&dir).await.map_err(ExecutorError::Elsewhere)?;
            if elsewhere == 0 {
                return Ok(Recovered::NotStarted);
            }
        }
        Ok(Recovered::Started(self.serve(dir, 0, Found::Dead(removal))))
    }

    fn serve(&self, dir: PathBuf, started_at: u64, found: Found) -> Execution {
        let aftermath = Arc::clone(&self.aftermath);
        let (attachment, execution) = Attachment::new(dir, started_at, self.patience, aftermath);
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
                // No folder, so no launch either. But it may have been there.
                Err(error) if error.kind() == io::ErrorKind::NotFound => match gone(dir.path()) {
                    Some(dir) => self.remains(dir, None).await,
                    None => Ok(Recovered::NotStarted),
                },
                Err(error) => Err(io_error("find the attempt's folder")(error)),
            }
        }
        .boxed()
    }

    fn detach(&self) -> BoxFuture<'_, ()> {
        async {
            self.stop.cancel();
            self.tasks.close();
            self.tasks.wait().await;
        }
        .boxed()
    }
}

/// What the first word of a shim was.
enum Greeted {
    Started(u64),
    Failed(String),
    /// None: it has ended.
    Ended,
    /// None yet.
    Slow,
    /// None, and whoever stopped it keeps doing so.
    Stopped,
}

/// The canonical path that a folder had. None if it was nowhere.
fn gone(dir: &Path) -> Option<PathBuf> {
    Some(dir.parent()?.canonicalize().ok()?.join(dir.file_name()?))
}

fn withdraw(dir: &Path) -> Result<(), ExecutorError> {
    untrusted::remove(&dir.join(record::LAUNCH)).map_err(io_error("withdraw the launch"))
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
