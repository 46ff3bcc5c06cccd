//! Three coordinators and two runners, each on a host of its own: a container on a network
//! that only they and this process are in.

use std::{path::PathBuf, process::Output};

use baton_client::{Connection, Endpoint};
use baton_proto::v1;
use tempfile::TempDir;
use tokio::sync::MutexGuard;

use crate::{
    cluster::alone,
    docker::{self, Disk, Host, Image, Mount, Network},
    fleet::{TOKEN, client, text},
    logs, members, traced, wait,
};

const COORDINATORS: u8 = 3;
const RUNNERS: u8 = 2;
const PORT: u16 = 7700;
const PEER_PORT: u16 = 7701;

/// Times in which runners find that a coordinator is gone long before their leases run out.
pub const PATIENT: [&str; 4] = ["--heartbeat-interval", "1s", "--unreachable-after", "3s"];

/// Times that let a test see a lease run out. Runners need most of them to find that a
/// coordinator says nothing.
pub const QUICK: [&str; 6] =
    ["--heartbeat-interval", "1s", "--unreachable-after", "3s", "--lease-ttl", "6s"];

/// Keeps the runner running, as a service would be kept, and notes its process.
const RUNNER: &str =
    "while :; do baton runner \"$@\" & echo $! > /tmp/runner; wait $!; sleep 0.2; done";

/// Coordinators `1` to `3` and runners `1` and `2` on hosts. All end with it.
pub struct Containers {
    coordinators: Vec<Host>,
    runners: Vec<Host>,
    /// Keeps the disks of the coordinators, if they have some of their own.
    keeper: Option<Host>,
    disks: Vec<Disk>,
    network: Network,
    image: Image,
    options: Vec<String>,
    folder: TempDir,
    _alone: MutexGuard<'static, ()>,
}

impl Containers {
    /// Coordinators with `options`; none, said loudly, where there are no containers.
    pub async fn start(options: &[&str]) -> Option<Self> {
        Self::with(options, None).await
    }

    /// As [`Self::start`], each coordinator with a disk of this size, such as `64m`.
    pub async fn with_disks(options: &[&str], size: &str) -> Option<Self> {
        Self::with(options, Some(size)).await
    }

    async fn with(options: &[&str], disk: Option<&str>) -> Option<Self> {
        docker::or_skip()?;
        let alone = alone().await;
        let folder = tempfile::Builder::new().prefix("baton-test-").tempdir().unwrap();
        let disks = (0..COORDINATORS).filter_map(|_| disk.map(Disk::make)).collect();
        let mut cluster = Self {
            coordinators: Vec::new(),
            runners: Vec::new(),
            keeper: None,
            disks,
            network: Network::make(),
            image: Image::make(),
            options: options.iter().map(ToString::to_string).collect(),
            folder,
            _alone: alone,
        };
        cluster.start_hosts().await;
        Some(cluster)
    }

    async fn start_hosts(&mut self) {
        std::fs::create_dir(self.trace()).unwrap();
        if !self.disks.is_empty() {
            self.keeper = Some(self.start_keeper());
        }
        for number in 1..=COORDINATORS {
            // The first one begins a cluster.
            let others: Vec<_> = (1..number).map(|other| self.address(other)).collect();
            let mut command = vec!["baton", "coordinator"];
            command.extend(others.iter().flat_map(|other| ["--join", other]));
            let host = self.start_coordinator(number, &command);
            self.coordinators.push(host);
            members::all_vote(&self.endpoint(), u64::from(number)).await;
        }
        for number in 1..=RUNNERS {
            let host = self.start_runner(number);
            self.runners.push(host);
        }
        members::runners_online(&self.endpoint(), self.runners.len()).await;
    }

    /// Starts the host of a coordinator, which serves by way of `command`.
    fn start_coordinator(&self, number: u8, command: &[&str]) -> Host {
        let address = self.address(number);
        let peer_address = format!("{}:{PEER_PORT}", self.network.address(number));
        let (listen, peer_listen) = (format!("0.0.0.0:{PORT}"), format!("0.0.0.0:{PEER_PORT}"));
        let mut command = command.to_vec();
        command.extend(["--listen", &listen, "--peer-listen", &peer_listen]);
        command.extend(["--address", &address, "--peer-address", &peer_address]);
        command.extend(["--allow-insecure-listen", "--data", "/data/coordinator"]);
        command.extend(["--snapshot-every", "300"]);
        command.extend(self.options.iter().map(String::as_str));
        let data = match self.disks.get(usize::from(number) - 1) {
            Some(disk) => Mount::Disk(disk, "/data"),
            None => Mount::Folder(self.made_folder(&format!("coordinator-{number}")), "/data"),
        };
        Host::start(&self.image, &self.network, number, &[data], &command)
    }

    fn start_runner(&self, number: u8) -> Host {
        let (name, addresses) = (format!("runner-{number}"), self.addresses());
        let mounts = [
            Mount::Folder(self.made_folder(&name), "/data"),
            Mount::Folder(self.trace(), "/trace"),
        ];
        let mut command = vec!["sh", "-c", RUNNER, "sh", "--addr", &addresses, "--name", &name];
        command.extend(["--data", "/data/runner", "--slots", "8", "--label", "real"]);
        Host::start(&self.image, &self.network, COORDINATORS + number, &mounts, &command)
    }

    /// A host that does nothing, so that the disks stay when theirs have ended.
    fn start_keeper(&self) -> Host {
        let places: Vec<_> =
            (1..=self.disks.len()).map(|number| format!("/disk-{number}")).collect();
        let disks = self.disks.iter().zip(&places);
        let mounts: Vec<_> = disks.map(|(disk, place)| Mount::Disk(disk, place)).collect();
        let number = COORDINATORS + RUNNERS + 1;
        Host::start(&self.image, &self.network, number, &mounts, &["sleep", "infinity"])
    }

    fn made_folder(&self, name: &str) -> PathBuf {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder).unwrap();
        folder
    }

    /// Where the jobs leave notes.
    #[must_use]
    pub fn trace(&self) -> PathBuf {
        self.folder.path().join("trace")
    }

    /// The data folder of a coordinator that has no disk of its own.
    #[must_use]
    pub fn data(&self, number: usize) -> PathBuf {
        self.folder.path().join(format!("coordinator-{number}/coordinator"))
    }

    /// The host of a coordinator.
    #[must_use]
    pub fn coordinator(&self, number: usize) -> &Host {
        &self.coordinators[number - 1]
    }

    /// The host of a runner.
    #[must_use]
    pub fn runner(&self, number: usize) -> &Host {
        &self.runners[number - 1]
    }

    /// A signal to a runner, and to nothing else on its host.
    pub fn signal_runner(&self, number: usize, signal: &str) {
        let script = format!("kill -{signal} $(cat /tmp/runner)");
        let signalled = self.runner(number).run(&script);
        assert!(signalled.status.success(), "{}", text(&signalled.stderr));
    }

    /// Takes a coordinator's host away, and has one with the same address and data join.
    pub fn join_again(&mut self, number: usize) {
        let others = (1..=self.coordinators.len()).filter(|other| *other != number);
        let others: Vec<_> = others.map(|other| self.address_of(other)).collect();
        drop(self.coordinators.remove(number - 1));
        let mut command = vec!["baton", "cluster", "join"];
        command.extend(others.iter().map(String::as_str));
        let host = self.start_coordinator(u8::try_from(number).unwrap(), &command);
        self.coordinators.insert(number - 1, host);
    }

    /// Leaves nothing free on a coordinator's disk.
    pub fn fill_disk(&self, number: usize) {
        let script = format!("dd if=/dev/zero of=/disk-{number}/fill bs=4k");
        let filled = self.keeper.as_ref().unwrap().run(&script);
        let told = text(&filled.stderr);
        assert!(told.contains("No space left on device"), "{told}");
    }

    /// Makes room on it again.
    pub fn free_disk(&self, number: usize) {
        let freed = self.keeper.as_ref().unwrap().run(&format!(": > /disk-{number}/fill"));
        assert!(freed.status.success(), "{}", text(&freed.stderr));
    }

    fn address(&self, number: u8) -> String {
        format!("{}:{PORT}", self.network.address(number))
    }

    /// Where callers reach a coordinator.
    #[must_use]
    pub fn address_of(&self, number: usize) -> String {
        self.address(u8::try_from(number).unwrap())
    }

    /// All coordinators, as `BATON_ADDR` takes them.
    #[must_use]
    pub fn addresses(&self) -> String {
        let all: Vec<_> = (1..=COORDINATORS).map(|number| self.address(number)).collect();
        all.join(",")
    }

    /// All coordinators, with the token.
    #[must_use]
    pub fn endpoint(&self) -> Endpoint {
        Endpoint::new(&self.addresses(), TOKEN).unwrap()
    }

    /// A connection to whichever coordinator answers.
    pub async fn connect(&self) -> Connection {
        members::connect(&self.endpoint()).await
    }

    /// A connection to one coordinator.
    pub async fn connect_to(&self, number: usize) -> Connection {
        members::connect(&Endpoint::new(&self.address_of(number), TOKEN).unwrap()).await
    }

    /// Waits until a coordinator's process has ended; its exit code.
    pub async fn ended(&self, number: usize) -> i32 {
        wait::until("a coordinator to end", async || self.coordinator(number).ended()).await
    }

    /// Which coordinator leads, by its host, once somebody does that runs.
    pub async fn leader(&self) -> usize {
        wait::until("a leader's host", async || {
            let answer = members::members(&self.endpoint()).await;
            let leader = answer.members.into_iter().find(|status| {
                let member = status.member.as_ref();
                status.reachable && member.is_some_and(|member| member.node_id == answer.leader_id)
            })?;
            let address = leader.member?.address;
            (1..=COORDINATORS).find(|number| self.address(*number) == address).map(usize::from)
        })
        .await
    }

    /// The coordinators that do not lead.
    pub async fn followers(&self) -> [usize; 2] {
        let leader = self.leader().await;
        let others: Vec<_> = (1..=3).filter(|number| *number != leader).collect();
        others.try_into().unwrap()
    }

    /// Waits until all coordinators vote and lack nothing, and both runners are online.
    pub async fn is_well(&self) {
        members::all_vote(&self.endpoint(), u64::from(COORDINATORS)).await;
        let connection = self.connect().await;
        wait::until("both runners to be online", async || {
            let runners = members::runners(&connection).await?;
            let online = runners.iter().filter(|runner| {
                runner.name.starts_with("runner-")
                    && runner.state() == v1::RunnerState::Online
                    && runner.last_heartbeat.is_some()
            });
            (online.count() == usize::from(RUNNERS)).then_some(())
        })
        .await;
        let status = self.baton(&["cluster", "status"]).await;
        assert!(status.status.success(), "{}", text(&status.stderr));
    }

    /// Waits until an attempt of a job is at work, as many as given or more; the number of
    /// the runner.
    pub async fn runs(&self, job: &str, attempt: usize) -> usize {
        let connection = self.connect().await;
        wait::until("a job to run", async || {
            let request = v1::GetJobRequest { job_id: job.to_owned() };
            let job = connection.jobs().get(request).await.ok()?.into_inner().job?;
            let last = job.attempts.last()?;
            let traces = traced::Traces::read(&self.trace());
            let notes = traces.of(&job.id)?.get(&last.lease)?;
            let at_work = job.attempts.len() >= attempt
                && job.state() == v1::JobState::Running
                && notes.lines() > 2;
            let number = last.runner_name.strip_prefix("runner-")?;
            at_work.then(|| number.parse().unwrap())
        })
        .await
    }

    /// Runs `baton ARGS` against this cluster to its end. It does not outlive this call.
    pub async fn baton(&self, args: &[&str]) -> Output {
        let command = client(self.folder.path(), &self.addresses(), args);
        let mut command = tokio::process::Command::from(command);
        wait::within("a command to end", command.kill_on_drop(true).output()).await.unwrap()
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            for (number, host) in (1..).zip(self.coordinators.iter().chain(&self.runners)) {
                eprintln!("==> host {number}\n{}", logs::end(&host.log()));
            }
        }
    }
}
