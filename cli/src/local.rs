//! Coordinators and runners in this process, for `dev` and `demo`. Real ones: nothing is
//! left out but the network between hosts.

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::Context as _;
use baton_client::{Connection, Endpoint, Patience, WatchEvent, watch};
use baton_coordinator::Coordinator;
use baton_proto::v1::{CancelJobRequest, JobState, ListJobsRequest};
use baton_runner::{Runner, executor::docker::DockerConfig};
use futures::{
    StreamExt as _,
    future::{join_all, select_all},
};
use tokio::{
    runtime::Runtime,
    time::{Instant, timeout},
};

use crate::{
    connect::Cluster,
    environment::Environment,
    local_folder::{kept_token, write_env},
    messages::Messages,
    open_files,
    output::text::counted,
    random,
};

/// How long jobs may take to end when their cluster goes away.
const JOBS_END_WITHIN: Duration = Duration::from_secs(30);

/// How long a cluster of several may take until all of them vote, or one leads again.
const LEADS_WITHIN: Duration = Duration::from_secs(60);

/// How long a killed coordinator's threads that read or write files are waited for.
const KILLED_WITHIN: Duration = Duration::from_secs(1);

/// How to set it up.
pub(crate) struct LocalOptions {
    /// Everything it keeps is in here.
    pub(crate) folder: PathBuf,
    pub(crate) coordinators: usize,
    pub(crate) runners: usize,
    /// Where the first coordinator serves; the others take free ports.
    pub(crate) listen: SocketAddr,
    /// Also where other hosts can listen in.
    pub(crate) allow_insecure_listen: bool,
    /// Jobs at once on each runner.
    pub(crate) slots: u32,
    pub(crate) labels: Vec<String>,
}

/// A cluster in this process.
pub(crate) struct Local {
    coordinators: Vec<Node>,
    runners: Vec<Runner>,
    cluster: Cluster,
}

/// What came of killing a leader.
pub(crate) struct Killed {
    /// Who leads now.
    pub(crate) leader: u64,
    /// How long nobody did.
    pub(crate) after: Duration,
}

impl Local {
    /// Starts everybody; they serve when this returns.
    ///
    /// # Errors
    /// What keeps one of them from starting.
    pub(crate) async fn start(
        options: LocalOptions,
        environment: &Environment,
    ) -> anyhow::Result<Self> {
        let token = kept_token(&options.folder)?;
        let open_files = open_files::allow_all();
        let mut coordinators = Vec::new();
        let started = start_coordinators(&options, &token, &mut coordinators).await;
        let addresses: Vec<_> =
            coordinators.iter().map(|node: &Node| node.coordinator.address().to_string()).collect();
        let endpoint =
            started.and_then(|()| write_env(&options.folder, &addresses.join(","), &token));
        let endpoint = match endpoint {
            Ok(endpoint) => endpoint,
            Err(error) => {
                stop_all(coordinators, Vec::new()).await;
                return Err(error);
            }
        };
        let mut runners = Vec::new();
        let started =
            start_runners(&options, &endpoint, environment, open_files, &mut runners).await;
        if let Err(error) = started {
            stop_all(coordinators, runners).await;
            return Err(error);
        }
        Ok(Self { coordinators, runners, cluster: Cluster::own(endpoint) })
    }

    /// How to reach it.
    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Returns when a coordinator cannot go on.
    pub(crate) async fn failed(&mut self) -> anyhow::Error {
        let failures = self.coordinators.iter_mut().map(|node| Box::pin(node.coordinator.failed()));
        select_all(failures).await.0.into()
    }

    /// Ends the coordinator that leads as if it had been killed, and waits until another
    /// one leads. `told` hears who it is just before.
    ///
    /// # Errors
    /// When none leads in time.
    pub(crate) async fn kill_leader(&mut self, told: impl FnOnce(u64)) -> anyhow::Result<Killed> {
        let leads = |node: &Node| node.coordinator.status().borrow().leading;
        let index = self.coordinators.iter().position(leads).context("nobody leads")?;
        let Node { coordinator, runtime } = self.coordinators.remove(index);
        told(coordinator.status().borrow().node_id);
        let killed_at = Instant::now();
        runtime.kill().await?;
        coordinator.abort().await;
        let statuses = self.coordinators.iter().map(|node| node.coordinator.status());
        let leads = statuses.map(|mut status| {
            Box::pin(async move { Some(status.wait_for(|s| s.leading).await.ok()?.node_id) })
        });
        let leader = timeout(LEADS_WITHIN, select_all(leads)).await;
        let leader = leader.ok().and_then(|(leader, ..)| leader).context("nobody else leads")?;
        Ok(Killed { leader, after: killed_at.elapsed() })
    }

    /// Stops everybody; jobs that run go on and are taken up by the next start.
    pub(crate) async fn stop(self) {
        stop_all(self.coordinators, self.runners).await;
    }

    /// Cancels whatever still runs, waits until it has ended, and stops everybody.
    ///
    /// # Errors
    /// When jobs may be left; everybody is stopped all the same.
    pub(crate) async fn stop_with_jobs(self, messages: Messages) -> anyhow::Result<()> {
        let ended = end_jobs_in_time(&self.cluster, messages).await;
        self.stop().await;
        ended
    }
}

/// A coordinator with a runtime of its own, so that it can end like a process: at once
/// and with everything that it was doing.
struct Node {
    coordinator: Coordinator,
    runtime: OwnRuntime,
}

struct OwnRuntime(Option<Runtime>);

impl OwnRuntime {
    fn new() -> anyhow::Result<Self> {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(2).enable_all().build();
        runtime.map(Some).map(Self).context("cannot start the runtime")
    }

    /// Drops every task, and with it every connection; all are gone when this returns.
    async fn kill(mut self) -> anyhow::Result<()> {
        let Some(runtime) = self.0.take() else { return Ok(()) };
        let end = move || runtime.shutdown_timeout(KILLED_WITHIN);
        tokio::task::spawn_blocking(end).await.context("cannot end a runtime")
    }
}

impl Drop for OwnRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Node {
    async fn start(config: baton_coordinator::Config) -> anyhow::Result<Self> {
        let runtime = OwnRuntime::new()?;
        let started = runtime.0.as_ref().map(|own| own.spawn(Coordinator::start(config)));
        let coordinator = started.context("the runtime has ended")?.await??;
        Ok(Self { coordinator, runtime })
    }
}

/// Starts the first coordinator, and has the others join it.
async fn start_coordinators(
    options: &LocalOptions,
    token: &str,
    nodes: &mut Vec<Node>,
) -> anyhow::Result<()> {
    let free = SocketAddr::new(options.listen.ip(), 0);
    for number in 1..=options.coordinators {
        let listen = if number == 1 { options.listen } else { free };
        let folder = folder(options, "coordinator", number, options.coordinators);
        let join = nodes.first().map(|first| first.coordinator.address().to_string());
        nodes.push(
            Node::start(baton_coordinator::Config {
                allow_insecure_listen: options.allow_insecure_listen,
                peer_listen: free,
                join: join.into_iter().collect(),
                ..baton_coordinator::Config::new(folder, listen, token.to_owned())
            })
            .await?,
        );
    }
    for node in nodes {
        let mut status = node.coordinator.status();
        let votes = status.wait_for(|status| status.voters.len() == options.coordinators);
        timeout(LEADS_WITHIN, votes).await.context("not all coordinators vote in time")??;
    }
    Ok(())
}

async fn start_runners(
    options: &LocalOptions,
    endpoint: &Endpoint,
    environment: &Environment,
    open_files: Option<u64>,
    runners: &mut Vec<Runner>,
) -> anyhow::Result<()> {
    for number in 1..=options.runners {
        let name = match options.runners {
            1 => host_name(),
            _ => format!("runner-{number}"),
        };
        let folder = folder(options, "runner", number, options.runners);
        let config = baton_runner::Config {
            labels: options.labels.iter().cloned().collect(),
            slots: options.slots,
            shim_command: shim_command()?,
            base_env: base_env(environment),
            docker: DockerConfig::of_this_host(),
            job_open_files: open_files,
            ..baton_runner::Config::new(folder, endpoint.clone(), name)
        };
        runners.push(Runner::start(config).await?);
    }
    Ok(())
}

/// The data folder of one of them; one that is alone has no number.
fn folder(options: &LocalOptions, role: &str, number: usize, of: usize) -> PathBuf {
    match of {
        1 => options.folder.join(role),
        _ => options.folder.join(format!("{role}-{number}")),
    }
}

async fn stop_all(coordinators: Vec<Node>, runners: Vec<Runner>) {
    join_all(runners.into_iter().map(Runner::stop)).await;
    // Together: one that is left alone finds nobody to lead in its place.
    join_all(coordinators.into_iter().map(|node| async move {
        node.coordinator.stop().await;
        drop(node.runtime);
    }))
    .await;
}

/// Cancels whatever still runs in `cluster` and waits until it has ended.
///
/// # Errors
/// When jobs may be left.
pub(crate) async fn end_jobs_in_time(cluster: &Cluster, messages: Messages) -> anyhow::Result<()> {
    let ended = timeout(JOBS_END_WITHIN, end_jobs(cluster, messages)).await;
    ended.context("some jobs did not end in time; their processes may be left")?
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
        messages.note(&format!("cancelling {}", counted(jobs.len() as u64, "job")));
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_job_gets_nothing_of_the_runners_own_secrets() {
        let environment = Environment::of([("PATH", "/bin"), ("BATON_TOKEN", "secret")]);
        let base = base_env(&environment);
        assert_eq!(base, [("PATH".to_owned(), "/bin".to_owned())].into());
    }
}
