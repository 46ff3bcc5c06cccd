//! A coordinator and a runner in this process, for `dev` and `demo`. Real ones:
//! nothing is left out but the network between hosts.

use std::{
    collections::BTreeMap,
    fs::{DirBuilder, File, OpenOptions},
    io::Write as _,
    net::SocketAddr,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::Context as _;
use baton_client::{Connection, Endpoint, Patience, WatchEvent, watch};
use baton_coordinator::Coordinator;
use baton_proto::v1::{CancelJobRequest, JobState, ListJobsRequest};
use baton_runner::Runner;
use futures::StreamExt as _;

use crate::{connect::Cluster, environment::Environment, messages::Messages, random};

/// How long jobs may take to end when their cluster goes away.
const JOBS_END_WITHIN: Duration = Duration::from_secs(30);

/// How to set it up.
pub(crate) struct LocalOptions {
    /// Everything it keeps is in here.
    pub(crate) folder: PathBuf,
    pub(crate) listen: SocketAddr,
    /// Also where other hosts can listen in.
    pub(crate) allow_insecure_listen: bool,
    /// Jobs at once.
    pub(crate) slots: u32,
    pub(crate) labels: Vec<String>,
}

/// A cluster of one coordinator and one runner.
pub(crate) struct Local {
    coordinator: Coordinator,
    runner: Runner,
    cluster: Cluster,
}

impl Local {
    /// Starts both; they serve when this returns.
    ///
    /// # Errors
    /// What keeps one of them from starting.
    pub(crate) async fn start(
        options: LocalOptions,
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        let token = kept_token(&options.folder)?;
        let config = baton_coordinator::Config {
            allow_insecure_listen: options.allow_insecure_listen,
            ..baton_coordinator::Config::new(
                options.folder.join("coordinator"),
                options.listen,
                token.clone(),
            )
        };
        let coordinator = Coordinator::start(config).await?;
        let address = coordinator.address().to_string();
        write_secret(
            &options.folder.join("env"),
            &format!("export BATON_ADDR={address}\nexport BATON_TOKEN={token}\n"),
        )?;
        let endpoint = Endpoint::new(&address, &token)?;
        let config = baton_runner::Config {
            labels: options.labels.into_iter().collect(),
            slots: options.slots,
            shim_command: shim_command()?,
            base_env: base_env(environment),
            ..baton_runner::Config::new(
                options.folder.join("runner"),
                endpoint.clone(),
                host_name(),
            )
        };
        let runner = match Runner::start(config).await {
            Ok(runner) => runner,
            Err(error) => {
                coordinator.stop().await;
                return Err(error.into());
            }
        };
        Ok(Self { coordinator, runner, cluster: Cluster::own(endpoint) })
    }

    /// How to reach it.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Returns when the coordinator cannot go on.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        self.coordinator.failed().await.into()
    }

    /// Stops both; jobs that run go on and are taken up by the next start.
    pub(crate) async fn stop(self) {
        self.runner.stop().await;
        self.coordinator.stop().await;
    }

    /// Cancels whatever still runs, waits until it has ended, and stops both.
    ///
    /// # Errors
    /// When jobs may be left; both are stopped all the same.
    pub(crate) async fn stop_with_jobs(self, messages: Messages) -> anyhow::Result<()> {
        let ended = tokio::time::timeout(JOBS_END_WITHIN, end_jobs(&self.cluster, messages)).await;
        self.stop().await;
        ended.context("some jobs did not end in time; their processes may be left")?
    }
}

async fn end_jobs(cluster: &Cluster, messages: Messages) -> anyhow::Result<()> {
    let connection = cluster.connect(messages).await?;
    let live = [JobState::Queued, JobState::Leased, JobState::Running];
    loop {
        let states = live.map(Into::into).to_vec();
        let request = ListJobsRequest { states, page_size: 1000, ..ListJobsRequest::default() };
        let jobs = connection.jobs().list(request).await?.into_inner().jobs;
        if jobs.is_empty() {
            return Ok(());
        }
        messages.note(&format!("cancelling {} jobs", jobs.len()));
        for job in &jobs {
            let request = CancelJobRequest {
                idempotency_key: random::idempotency_key()?,
                job_id: job.id.clone(),
                reason: "the cluster goes away".to_owned(),
            };
            connection.jobs().cancel(request).await?;
        }
        for job in &jobs {
            ended(&connection, &job.id, cluster.patience()).await?;
        }
    }
}

async fn ended(connection: &Connection, job_id: &str, patience: Patience) -> anyhow::Result<()> {
    let mut changes = watch(connection.clone(), job_id, patience);
    while let Some(change) = changes.next().await {
        let _told: WatchEvent = change?;
    }
    Ok(())
}

/// The program and arguments that start a shim.
pub(crate) fn shim_command() -> anyhow::Result<Vec<std::ffi::OsString>> {
    let program = std::env::current_exe().context("cannot find this program's own file")?;
    Ok(vec![program.into(), "shim".into()])
}

/// What a job's environment starts from: where programs and the user's own
/// settings are, and the language.
pub(crate) fn base_env(environment: &Environment) -> BTreeMap<String, String> {
    let names = ["PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ"];
    let taken = names.into_iter().filter_map(|name| {
        let value = environment.get(name)?.to_str()?;
        Some((name.to_owned(), value.to_owned()))
    });
    taken.collect()
}

/// The host's name, for people.
pub(crate) fn host_name() -> String {
    let name = nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok());
    name.unwrap_or_else(|| "runner".to_owned())
}

/// The token of `folder`, made when there is none.
fn kept_token(folder: &Path) -> anyhow::Result<String> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("cannot create {}", folder.display()))?;
    let path = folder.join("token");
    match std::fs::read_to_string(&path) {
        Ok(token) => Ok(token.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let token = random::token()?;
            write_secret(&path, &format!("{token}\n"))?;
            Ok(token)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes a file that nobody else can read, in place of an older one.
fn write_secret(path: &Path, text: &str) -> anyhow::Result<()> {
    let write = || -> std::io::Result<()> {
        let new = path.with_extension("new");
        match std::fs::remove_file(&new) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file: File =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&new, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_token_is_made_once_and_readable_by_nobody_else() {
        let folder = tempfile::tempdir().unwrap();
        let first = kept_token(folder.path()).unwrap();
        assert_eq!(kept_token(folder.path()).unwrap(), first);
        let mode = std::fs::metadata(folder.path().join("token")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_secret_replaces_an_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("env");
        write_secret(&path, "one").unwrap();
        write_secret(&path, "two").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "two");
    }

    #[test]
    fn a_job_gets_nothing_of_the_runners_own_secrets() {
        let environment = Environment::of([("PATH", "/bin"), ("BATON_TOKEN", "secret")]);
        let base = base_env(&environment);
        assert_eq!(base, [("PATH".to_owned(), "/bin".to_owned())].into());
    }
}
