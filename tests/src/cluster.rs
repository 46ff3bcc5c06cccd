//! Several coordinators and runners as processes of their own, in a temporary folder.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output},
};

use baton_client::{Connection, Endpoint};
use baton_proto::v1;
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

use crate::{
    baton,
    fleet::{TOKEN, client, end_jobs_in, kill, spawn},
    gate::Gate,
    logs, members, port, wait,
};

/// Several clusters at once would take each other's processors away, and with them their
/// leaders.
static ONE_AT_A_TIME: Mutex<()> = Mutex::const_new(());

/// Waits until no other cluster runs; none does until what it gives is dropped.
pub async fn alone() -> MutexGuard<'static, ()> {
    ONE_AT_A_TIME.lock().await
}

/// Coordinators and runners. All end with it.
pub struct Cluster {
    folder: TempDir,
    /// In the order of their numbers; also those that were removed.
    nodes: Vec<Node>,
    runners: Vec<(String, Option<Child>)>,
    _alone: MutexGuard<'static, ()>,
}

struct Node {
    port: u16,
    peer_port: u16,
    /// Where others are sent to its peer port, if they go another way.
    gate: Option<Gate>,
    process: Option<Child>,
}

impl Cluster {
    /// As many coordinators, and runners `runner-1` and on with 8 slots each.
    pub async fn start(coordinators: usize, runners: usize) -> Self {
        Self::with(coordinators, runners, false).await
    }

    /// As [`Self::start`], of coordinators that can be cut off from each other.
    pub async fn start_with_gates(coordinators: usize, runners: usize) -> Self {
        Self::with(coordinators, runners, true).await
    }

    async fn with(coordinators: usize, runners: usize, gates: bool) -> Self {
        let alone = alone().await;
        let folder = tempfile::Builder::new().prefix("baton-test-").tempdir().unwrap();
        let mut cluster = Self { folder, nodes: Vec::new(), runners: Vec::new(), _alone: alone };
        for _ in 0..coordinators {
            let node = cluster.add_node();
            if gates {
                let gate = Gate::to(cluster.node(node).peer_port).await;
                cluster.node(node).gate = Some(gate);
            }
            cluster.start_node(node);
            cluster.all_vote(node).await;
        }
        for number in 1..=runners {
            cluster.runners.push((format!("runner-{number}"), None));
            cluster.start_runner(number);
        }
        cluster.runners_online().await;
        cluster
    }

    /// Takes addresses for one more coordinator; its number.
    pub fn add_node(&mut self) -> u64 {
        let (port, peer_port) = (port::free(), port::free());
        self.nodes.push(Node { port, peer_port, gate: None, process: None });
        self.nodes.len() as u64
    }

    fn node(&mut self, node: u64) -> &mut Node {
        &mut self.nodes[usize::try_from(node).unwrap() - 1]
    }

    /// Where callers reach a coordinator.
    #[must_use]
    pub fn address_of(&self, node: u64) -> String {
        format!("127.0.0.1:{}", self.nodes[usize::try_from(node).unwrap() - 1].port)
    }

    /// Starts a coordinator (again). A new one joins those that there are.
    pub fn start_node(&mut self, node: u64) {
        self.start_node_with(node, &[]);
    }

    /// Starts a coordinator (again), with more options.
    pub fn start_node_with(&mut self, node: u64, options: &[&str]) {
        let (data, address) = (self.node_folder(node), self.address_of(node));
        let peer_address = format!("127.0.0.1:{}", self.node(node).peer_port);
        let others = (1..=self.nodes.len() as u64).filter(|other| *other != node);
        let others: Vec<_> = others.map(|other| self.address_of(other)).collect();
        let mut command = Command::new(baton());
        if data.exists() || others.is_empty() {
            command.arg("coordinator");
        } else {
            command.args(["cluster", "join"]).args(others);
        }
        command
            .args(["--listen", &address, "--peer-listen", &peer_address, "--data"])
            .arg(data)
            .args(options)
            .env("BATON_TOKEN", TOKEN);
        if !options.contains(&"--snapshot-every") {
            command.args(["--snapshot-every", "300"]);
        }
        if let Some(gate) = &self.node(node).gate {
            command.args(["--peer-address", &gate.address()]);
        }
        let log = self.folder.path().join(format!("coordinator-{node}.log"));
        self.node(node).process = Some(spawn(command, &log));
    }

    /// Starts a runner (again), which knows all coordinators there were until now.
    pub fn start_runner(&mut self, number: usize) {
        let (addresses, folder) = (self.addresses(), self.folder.path().to_owned());
        let (name, process) = &mut self.runners[number - 1];
        let mut command = Command::new(baton());
        command
            .args(["runner", "--addr", &addresses, "--name", name, "--slots", "8", "--data"])
            .arg(folder.join(&*name))
            .env("BATON_TOKEN", TOKEN);
        *process = Some(spawn(command, &folder.join(format!("{name}.log"))));
    }

    /// Lets nothing pass between a coordinator and the others any more. Callers reach all.
    pub fn cut_off(&self, node: u64) {
        let pid = |node: &Node| node.process.as_ref().map(Child::id);
        let numbered = || (1..).zip(&self.nodes);
        let (one, others): (Vec<_>, Vec<_>) = numbered().partition(|(number, _)| *number == node);
        for (nodes, kept_out) in [(&one, &others), (&others, &one)] {
            let kept_out: Vec<_> = kept_out.iter().filter_map(|(_, node)| pid(node)).collect();
            for (_, node) in nodes {
                node.gate.as_ref().unwrap().keep_out(kept_out.clone());
            }
        }
    }

    /// Lets everything pass again.
    pub fn connect_again(&self) {
        self.nodes.iter().for_each(|node| node.gate.as_ref().unwrap().keep_out(Vec::new()));
    }

    /// SIGKILL to a coordinator.
    pub fn kill_node(&mut self, node: u64) {
        kill(self.node(node).process.take());
    }

    /// SIGTERM to a coordinator; gives how it ended.
    pub async fn stop_node(&mut self, node: u64) -> ExitStatus {
        let mut process = self.node(node).process.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(process.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        wait::until("a coordinator to stop", async || process.try_wait().unwrap()).await
    }

    /// Waits until a coordinator ends by itself; gives how.
    pub async fn node_ends(&mut self, node: u64) -> ExitStatus {
        let mut process = self.node(node).process.take().unwrap();
        wait::until("a coordinator to end", async || process.try_wait().unwrap()).await
    }

    /// The data folder of a coordinator.
    #[must_use]
    pub fn node_folder(&self, node: u64) -> PathBuf {
        self.folder.path().join(format!("coordinator-{node}"))
    }

    /// The folder of everything.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// All coordinators, as `BATON_ADDR` takes them.
    #[must_use]
    pub fn addresses(&self) -> String {
        let all: Vec<_> = (1..=self.nodes.len() as u64).map(|node| self.address_of(node)).collect();
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
    pub async fn connect_to(&self, node: u64) -> Connection {
        members::connect(&Endpoint::new(&self.address_of(node), TOKEN).unwrap()).await
    }

    /// How the members are, as one of them tells.
    pub async fn members(&self) -> v1::ListMembersResponse {
        members::members(&self.endpoint()).await
    }

    /// Who leads, once somebody does that runs.
    pub async fn leader(&self) -> u64 {
        members::leader(&self.endpoint()).await
    }

    /// Waits until so many coordinators vote, answer and have what was committed, with a
    /// leader.
    pub async fn all_vote(&self, count: u64) {
        members::all_vote(&self.endpoint(), count).await;
    }

    /// Waits until the leader has a session with every runner.
    pub async fn runners_online(&self) {
        members::runners_online(&self.endpoint(), self.runners.len()).await;
    }

    /// `baton ARGS` against this cluster.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        client(self.folder.path(), &self.addresses(), args)
    }

    /// Starts `baton ARGS`, whose standard output goes to `file` in the folder.
    #[must_use]
    pub fn spawn(&self, args: &[&str], file: &str) -> Child {
        let output = File::create(self.folder.path().join(file)).unwrap();
        let errors = File::create(self.folder.path().join(format!("{file}.err"))).unwrap();
        self.command(args).stdout(output).stderr(errors).spawn().unwrap()
    }

    /// What is in `file` of the folder.
    #[must_use]
    pub fn read(&self, file: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(file)).unwrap_or_default()
    }

    /// Runs `baton ARGS` to its end.
    pub async fn baton(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        let run = tokio::task::spawn_blocking(move || command.output());
        wait::within("a command to end", run).await.unwrap().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let nodes = (1..=self.nodes.len()).map(|number| format!("coordinator-{number}.log"));
            let runners = self.runners.iter().map(|(name, _)| format!("{name}.log"));
            logs::tell(&mut self.folder, nodes.chain(runners));
        }
        let folders: Vec<_> =
            self.runners.iter().map(|(name, _)| self.folder.path().join(name)).collect();
        // Jobs first: they outlive their runner.
        folders.iter().for_each(|folder| end_jobs_in(folder));
        for (_, process) in &mut self.runners {
            kill(process.take());
        }
        for node in &mut self.nodes {
            kill(node.process.take());
        }
        folders.iter().for_each(|folder| end_jobs_in(folder));
    }
}
