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
mod login;
pub mod remote;
pub(crate) mod shell;

use std::{collections::BTreeMap, path::Path, sync::Arc};

use baton_proto::v1;
use futures::future::{BoxFuture, FutureExt as _};

pub use self::config::{Address, Jump, TargetConfig, way};
use self::{
    connection::{Broken, ConnectError, Connection},
    control::{Control, Finish, Report, Stage},
    remote::{Hop, Remote},
    shell::Folder,
};
use super::{
    Aftermath, AttemptDir, Execution, Executor, ExecutorError, Launch, Notes, Place, Recovered,
    Unready, local::LocalExecutor,
};
use crate::{executor::Names, identity::kernel_random, shim::record};

/// In the attempt's folder: what is needed to find the job on its target.
pub(crate) const RECORD: &str = "remote.json";

/// The reason when nobody answers at a target.
pub(super) const TARGET_UNREACHABLE: &str = "TARGET_UNREACHABLE";
/// The reason when it does not let the runner in.
pub(super) const TARGET_LOGIN: &str = "TARGET_LOGIN";
/// The reason when it shows a key that is not known.
pub(super) const HOST_KEY: &str = "HOST_KEY";

/// Runs jobs on one other host.
#[derive(Debug)]
pub struct SshExecutor {
    target: String,
    /// The way there, if the settings have one.
    hops: Result<Vec<Hop>, String>,
    base: String,
    shims: LocalExecutor,
}

/// What is kept of an attempt that may have come to its target.
pub(crate) type Kept = (Remote, Names);

impl SshExecutor {
    /// An executor for the one of `targets` that is called `name`, with shims that start
    /// as those of [`LocalExecutor::new`] do. The others may be on the way there.
    #[must_use]
    pub fn new(targets: &BTreeMap<String, TargetConfig>, name: &str, shims: LocalExecutor) -> Self {
        Self {
            target: name.to_owned(),
            hops: way(targets, name),
            base: targets.get(name).map(|target| target.base.clone()).unwrap_or_default(),
            shims: shims.with_aftermath(Arc::new(Remains)),
        }
    }

    async fn connect(&self) -> Result<(&[Hop], Connection), Unready> {
        let unready = |reason, problem| Unready {
            reason,
            message: format!("the target {}: {problem}", self.target),
            transient: true,
        };
        let hops = self.hops.as_ref().map_err(|problem| unready("TARGET", problem.clone()))?;
        let connection = Connection::open(hops).await.map_err(|error| {
            let reason = match error {
                ConnectError::Unreachable { .. } => TARGET_UNREACHABLE,
                ConnectError::Stranger { .. } => HOST_KEY,
                ConnectError::Login { .. } => TARGET_LOGIN,
                ConnectError::Here { .. } => "TARGET",
            };
            unready(reason, error.to_string())
        })?;
        Ok((hops, connection))
    }
}

impl Executor for SshExecutor {
    fn prepare<'a>(
        &'a self,
        _: &'a v1::Executor,
        _: &'a dyn Notes,
    ) -> BoxFuture<'a, Result<Place, Unready>> {
        async move {
            let (hops, connection) = self.connect().await?;
            connection.close().await;
            let token = kernel_random("uuid").map_err(|error| Unready {
                reason: "RUNNER",
                message: format!("cannot get random numbers: {error}"),
                transient: true,
            })?;
            Ok(Place::Remote(Box::new(Remote {
                target: self.target.clone(),
                hops: hops.to_vec(),
                base: self.base.clone(),
                token,
            })))
        }
        .boxed()
    }

    by_shims!();

    fn check(&self) -> BoxFuture<'_, Result<String, String>> {
        async move {
            let (_, connection) = self.connect().await.map_err(|unready| unready.message)?;
            connection.close().await;
            Ok(String::new())
        }
        .boxed()
    }

    fn sweep<'a>(
        &'a self,
        runner: &'a str,
        is_held: &'a (dyn Fn(u64) -> bool + Sync),
    ) -> BoxFuture<'a, Result<u32, String>> {
        async move {
            let (_, connection) = self.connect().await.map_err(|unready| unready.message)?;
            let removed = sweep(&connection, &self.base, runner, is_held).await;
            connection.close().await;
            removed.map_err(|problem| format!("the target {}: {problem}", self.target))
        }
        .boxed()
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

/// Ends and removes what `runner` has on a target for leases that are not held.
async fn sweep(
    connection: &Connection,
    base: &str,
    runner: &str,
    is_held: &(dyn Fn(u64) -> bool + Sync),
) -> Result<u32, Broken> {
    let mut removed = 0;
    for name in list(connection, base, runner).await? {
        let lease = name.split('-').next().and_then(|lease| lease.parse().ok());
        if lease.is_some_and(|lease| !is_held(lease)) {
            bury(connection, &Folder::named(base, &name, runner)).await?;
            removed += 1;
        }
    }
    Ok(removed)
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
