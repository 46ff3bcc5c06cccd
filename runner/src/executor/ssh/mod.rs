//! Runs jobs on other hosts over SSH. A job is started and listened to by a monitor under
//! a shim; here is what comes before, and what is left when they died.
//!
//! A target needs no more than an SSH server and a POSIX shell. What stands by the job
//! there is `scripts/keeper.sh`: it outlives the connection, keeps output and exit in
//! files, and ends the job when nobody renews its lease.

mod config;
pub(crate) mod connection;
pub(crate) mod control;
mod known_hosts;
pub mod remote;
pub(crate) mod shell;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use baton_proto::v1::{self, executor::Kind};
use futures::future::{BoxFuture, FutureExt as _};

pub use self::config::{Address, Jump, TargetConfig, way};
use self::{
    connection::{Broken, ConnectError, Connection},
    control::{Control, Finish, Report, Stage},
    remote::Remote,
    shell::Folder,
};
use super::{
    Aftermath, AttemptDir, Execution, Executor, ExecutorError, Launch, Notes, Place, Recovered,
    Unready, local::LocalExecutor,
};
use crate::{executor::Names, identity::kernel_random, shim::record};

/// In the attempt's folder: what is needed to find the job on its target.
pub(crate) const RECORD: &str = "remote.json";

/// Runs jobs on other hosts.
#[derive(Debug)]
pub struct SshExecutor {
    targets: BTreeMap<String, TargetConfig>,
    shims: LocalExecutor,
}

/// What is kept of an attempt that may have come to its target.
pub(crate) type Kept = (Remote, Names);

impl SshExecutor {
    /// An executor for the `targets` of the settings, by name, with shims that start as
    /// those of [`LocalExecutor::new`] do.
    #[must_use]
    pub fn new(targets: BTreeMap<String, TargetConfig>, shims: LocalExecutor) -> Self {
        Self { targets, shims: shims.with_aftermath(Arc::new(Remains)) }
    }

    async fn sweep_target(
        &self,
        target: &str,
        base: &str,
        runner: &str,
        is_held: &(dyn Fn(u64) -> bool + Sync),
    ) -> Result<u32, String> {
        let hops = way(&self.targets, target)?;
        let connection = Connection::open(&hops).await.map_err(|error| error.to_string())?;
        let orphans = async {
            let mut removed = 0;
            for name in list(&connection, base, runner).await? {
                let lease = name.split('-').next().and_then(|lease| lease.parse().ok());
                if lease.is_none_or(is_held) {
                    continue;
                }
                bury(&connection, &Folder::named(base, &name, runner)).await?;
                removed += 1;
            }
            Ok(removed)
        };
        let removed = orphans.await.map_err(|problem: Broken| problem.to_string());
        connection.close().await;
        removed
    }
}

impl Executor for SshExecutor {
    fn prepare<'a>(
        &'a self,
        wanted: &'a v1::Executor,
        _: &'a dyn Notes,
    ) -> BoxFuture<'a, Result<Place, Unready>> {
        async move {
            let Some(Kind::Ssh(wanted)) = &wanted.kind else { return Ok(Place::Host) };
            let unready = |reason, message| Unready { reason, message, transient: true };
            let name = &wanted.target;
            let Some(target) = self.targets.get(name) else {
                let message = format!("the runner's settings have no target {name:?} any more");
                return Err(unready("NO_TARGET", message));
            };
            let hops = way(&self.targets, name).map_err(|problem| unready("TARGET", problem))?;
            let token = kernel_random("uuid").map_err(|error| {
                unready("RUNNER", format!("cannot get random numbers: {error}"))
            })?;
            match Connection::open(&hops).await {
                Ok(connection) => connection.close().await,
                Err(error) => {
                    let reason = match error {
                        ConnectError::Unreachable { .. } => "TARGET_UNREACHABLE",
                        ConnectError::Stranger { .. } => "HOST_KEY",
                        ConnectError::Login { .. } => "TARGET_LOGIN",
                        ConnectError::Here { .. } => "TARGET",
                    };
                    return Err(unready(reason, format!("the target {name}: {error}")));
                }
            }
            Ok(Place::Remote(Box::new(Remote {
                target: name.clone(),
                hops,
                base: target.base.clone(),
                token,
            })))
        }
        .boxed()
    }

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

    fn sweep<'a>(
        &'a self,
        runner: &'a str,
        is_held: &'a (dyn Fn(u64) -> bool + Sync),
    ) -> BoxFuture<'a, Result<u32, String>> {
        async move {
            let mut removed = 0;
            let mut problems = Vec::new();
            for (name, target) in &self.targets {
                match self.sweep_target(name, &target.base, runner, is_held).await {
                    Ok(number) => removed += number,
                    Err(problem) => problems.push(format!("the target {name}: {problem}")),
                }
            }
            if problems.is_empty() { Ok(removed) } else { Err(problems.join("; ")) }
        }
        .boxed()
    }

    fn detach(&self) -> BoxFuture<'_, ()> {
        self.shims.detach()
    }
}

/// What is left on targets.
#[derive(Debug)]
struct Remains;

impl Aftermath for Remains {
    fn end<'a>(&'a self, dir: &'a Path) -> BoxFuture<'a, Result<u32, String>> {
        async move {
            let kept: Option<Kept> = record::read(dir, RECORD)
                .map_err(|error| format!("cannot read where the job is: {error}"))?;
            // Kept before anything was sent.
            let Some((remote, names)) = kept else { return Ok(0) };
            let target = &remote.target;
            let problem = |error: String| format!("the target {target}: {error}");
            let connection =
                Connection::open(&remote.hops).await.map_err(|error| problem(error.to_string()))?;
            let finish = bury(&connection, &Folder::new(&remote, &names)).await;
            connection.close().await;
            finish.map(|finish| finish.killed).map_err(|error| problem(error.to_string()))
        }
        .boxed()
    }
}

/// Ends the job in `folder`, proves that nothing of it is left, and removes the folder.
async fn bury(connection: &Connection, folder: &Folder) -> Result<Finish, Broken> {
    let mut control = Control::open(connection, folder.control(None, 0)).await?;
    let (_, stage) = control.hello().await?.map_err(Broken)?;
    control.order("kill").await?;
    let finish = loop {
        match control.report().await? {
            Report::Gone(finish) => break finish,
            Report::Fail(problem) => return Err(Broken(problem)),
            _ => {}
        }
    };
    if stage != Stage::Nothing {
        control.order("clean").await?;
        loop {
            match control.report().await? {
                Report::Clean => break,
                Report::Fail(problem) => return Err(Broken(problem)),
                _ => {}
            }
        }
    }
    control.close().await;
    Ok(finish)
}

/// The names of the folders that `runner` has on a target.
async fn list(connection: &Connection, base: &str, runner: &str) -> Result<Vec<String>, Broken> {
    let mut control = Control::open(connection, shell::list(base, runner)).await?;
    let mut names = Vec::new();
    loop {
        match control.report().await? {
            // It is taken for part of a path there.
            Report::Attempt(name)
                if name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') =>
            {
                names.push(name);
            }
            Report::Listed => return Ok(names),
            _ => {}
        }
    }
}
