//! A coordinator and runners as processes of their own, in a temporary folder.

use std::{
    fs::File,
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use baton_client::{Connection, Endpoint};
use baton_proto::v1;
use tempfile::TempDir;

use crate::{baton, logs, port, wait};

/// The token of every test cluster.
pub const TOKEN: &str = "a-token-for-tests-only";

/// A coordinator and its runners. All end with it.
pub struct Fleet {
    folder: TempDir,
    port: u16,
    coordinator: Option<Child>,
    coordinator_options: Vec<String>,
    runners: Vec<Runner>,
}

/// One runner process, which may be dead at the moment.
struct Runner {
    name: String,
    program: PathBuf,
    options: Vec<String>,
    process: Option<Child>,
}

impl Runner {
    fn new(name: &str, options: &[&str]) -> Self {
        Self {
            name: name.to_owned(),
            program: baton().to_owned(),
            options: options.iter().map(ToString::to_string).collect(),
            process: None,
        }
    }
}

impl Fleet {
    /// A coordinator, started with more `options`.
    pub async fn start(options: &[&str]) -> Self {
        let mut fleet = Self {
            folder: tempfile::Builder::new().prefix("baton-test-").tempdir().unwrap(),
            port: port::free(),
            coordinator: None,
            coordinator_options: options.iter().map(ToString::to_string).collect(),
            runners: Vec::new(),
        };
        fleet.start_coordinator().await;
        fleet
    }

    /// A coordinator and one runner with `slots`.
    pub async fn with_runner(slots: u32) -> Self {
        let mut fleet = Self::start(&[]).await;
        fleet.add_runner("one", &["--slots", &slots.to_string()]).await;
        fleet
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// The folder of everything; the coordinator's is `coordinator` in it.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The process of the coordinator.
    #[must_use]
    pub fn coordinator_pid(&self) -> u32 {
        self.coordinator.as_ref().unwrap().id()
    }

    /// The process of a runner.
    #[must_use]
    pub fn runner_pid(&self, name: &str) -> u32 {
        let runner = self.runners.iter().find(|runner| runner.name == name).unwrap();
        runner.process.as_ref().unwrap().id()
    }

    /// The data folder of a runner.
    #[must_use]
    pub fn runner_folder(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("runner-{name}"))
    }

    /// Starts the coordinator (again), and waits until it answers.
    pub async fn start_coordinator(&mut self) {
        let mut command = Command::new(baton());
        command
            .args(["coordinator", "--listen", &self.address()])
            .args(["--peer-listen", "127.0.0.1:0", "--data"])
            .arg(self.folder.path().join("coordinator"))
            .args(&self.coordinator_options)
            .env("BATON_TOKEN", TOKEN);
        self.coordinator = Some(spawn(command, &self.folder.path().join("coordinator.log")));
        self.connect().await;
    }

    /// SIGKILL to the coordinator.
    pub fn kill_coordinator(&mut self) {
        kill(self.coordinator.take());
    }

    /// SIGTERM to the coordinator; gives how it ended.
    pub async fn stop_coordinator(&mut self) -> std::process::ExitStatus {
        let mut process = self.coordinator.take().unwrap();
        let pid = nix::unistd::Pid::from_raw(process.id().cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
        wait::until("the coordinator to stop", async || process.try_wait().unwrap()).await
    }

    /// Adds a runner whose data folder is a copy of another's, and starts it.
    pub fn add_copied_runner(&mut self, name: &str, of: &str, options: &[&str]) {
        copy_folder(&self.runner_folder(of), &self.runner_folder(name));
        self.runners.push(Runner::new(name, options));
        self.start_runner(name);
    }

    /// Waits until a runner ends by itself; gives how, and what it logged.
    pub async fn ended_runner(&mut self, name: &str) -> (std::process::ExitStatus, String) {
        let log = self.folder.path().join(format!("runner-{name}.log"));
        let runner = self.runners.iter_mut().find(|runner| runner.name == name).unwrap();
        let process = runner.process.as_mut().unwrap();
        let status = wait::until("a runner to end", async || process.try_wait().unwrap()).await;
        runner.process = None;
        (status, std::fs::read_to_string(log).unwrap())
    }

    /// Adds a runner, and waits until it is online.
    pub async fn add_runner(&mut self, name: &str, options: &[&str]) {
        self.runners.push(Runner::new(name, options));
        self.start_runner(name);
        let connection = self.connect().await;
        wait::until("the runner to be online", async || {
            let request = v1::GetRunnerRequest { runner: name.to_owned() };
            let runner = connection.runners().get(request).await.ok()?.into_inner().runner?;
            (runner.state() == v1::RunnerState::Online && runner.last_heartbeat.is_some())
                .then_some(())
        })
        .await;
    }

    /// Starts a runner (again).
    pub fn start_runner(&mut self, name: &str) {
        let (address, data) = (self.address(), self.runner_folder(name));
        let log = self.folder.path().join(format!("runner-{name}.log"));
        let runner = self.runners.iter_mut().find(|runner| runner.name == name).unwrap();
        let mut command = Command::new(&runner.program);
        command
            .args(["runner", "--addr", &address, "--name", name, "--data"])
            .arg(data)
            .args(&runner.options)
            .env("BATON_TOKEN", TOKEN)
            .env("SECRET_OF_THE_RUNNER", "must not reach a job");
        runner.process = Some(spawn(command, &log));
    }

    /// From its next start on, a runner is this program.
    pub fn replace_runner(&mut self, name: &str, program: PathBuf) {
        let runner = self.runners.iter_mut().find(|runner| runner.name == name).unwrap();
        runner.program = program;
    }

    /// SIGKILL to a runner; its jobs go on.
    pub fn kill_runner(&mut self, name: &str) {
        let runner = self.runners.iter_mut().find(|runner| runner.name == name).unwrap();
        kill(runner.process.take());
    }

    /// SIGTERM to a runner.
    pub fn terminate_runner(&self, name: &str) {
        let pid = nix::unistd::Pid::from_raw(self.runner_pid(name).cast_signed());
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    }

    /// A connection to the coordinator, once it answers.
    pub async fn connect(&self) -> Connection {
        let endpoint = Endpoint::new(&self.address(), TOKEN).unwrap();
        wait::until("the coordinator to answer", async || {
            let connection =
                Connection::connect(endpoint.clone(), Duration::from_secs(5)).await.ok()?;
            connection.cluster().status(v1::ClusterStatusRequest {}).await.ok()?;
            Some(connection)
        })
        .await
    }

    /// `baton ARGS` against this fleet.
    #[must_use]
    pub fn command(&self, args: &[&str]) -> Command {
        client(self.folder.path(), &self.address(), args)
    }

    /// Runs `baton ARGS` to its end.
    pub async fn baton(&self, args: &[&str]) -> Output {
        let mut command = self.command(args);
        let run = tokio::task::spawn_blocking(move || command.output());
        wait::within("a command to end", run).await.unwrap().unwrap()
    }

    /// The job as `baton jobs show -o json` gives it.
    pub async fn show(&self, job: &str) -> serde_json::Value {
        let output = self.baton(&["jobs", "show", job, "-o", "json"]).await;
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// What the processes logged.
    #[must_use]
    pub fn logs(&self) -> String {
        let log = |name| std::fs::read_to_string(self.folder.path().join(name));
        self.log_names().map(|name| log(name).unwrap_or_default()).collect()
    }

    fn log_names(&self) -> impl Iterator<Item = String> {
        let runners = self.runners.iter().map(|runner| format!("runner-{}.log", runner.name));
        std::iter::once("coordinator.log".to_owned()).chain(runners)
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let names: Vec<_> = self.log_names().collect();
            logs::tell(&mut self.folder, names);
        }
        // Jobs first: they outlive their runner.
        for runner in &self.runners {
            end_jobs_in(&self.runner_folder(&runner.name));
        }
        for runner in &mut self.runners {
            kill(runner.process.take());
        }
        kill(self.coordinator.take());
        for runner in &self.runners {
            end_jobs_in(&self.runner_folder(&runner.name));
        }
    }
}

/// Text of a process's output.
#[must_use]
pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The exit code of a finished process; a signal counts as none.
#[must_use]
pub fn code(output: &Output) -> Option<i32> {
    assert_eq!(output.status.signal(), None, "ended by a signal: {}", text(&output.stderr));
    output.status.code()
}

pub(crate) fn spawn(mut command: Command, log: &Path) -> Child {
    let log = File::options().create(true).append(true).open(log).unwrap();
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

pub(crate) fn kill(process: Option<Child>) {
    if let Some(mut process) = process {
        // It may have ended by itself.
        let _ = process.kill();
        process.wait().unwrap();
    }
}

/// Copies files and folders, as `cp -r` does; sockets stay behind.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let (from, to) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            copy_folder(&from, &to);
        } else if kind.is_file() {
            std::fs::copy(from, to).unwrap();
        }
    }
}

/// Kills the coordinators and runners that have `folder`, a test's own, in their command
/// line.
pub fn end_members_in(folder: &Path) {
    let folder = folder.to_str().unwrap().as_bytes();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let mut arguments = arguments.split(|byte| *byte == 0).skip(1);
        let serves =
            arguments.next().is_some_and(|role| role == b"coordinator" || role == b"runner");
        if serves && arguments.any(|argument| argument.starts_with(folder)) {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Kills what a runner's jobs left: processes with this fleet's own temporary
/// folder in their environment or command line, so certainly its own.
pub(crate) fn end_jobs_in(folder: &Path) {
    let folder = folder.to_str().unwrap().as_bytes();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let names_it = |file: &str| {
            let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
            bytes.windows(folder.len()).any(|window| window == folder)
        };
        let own_shim_or_job = names_it("environ") || {
            let arguments = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            arguments.split(|byte| *byte == 0).nth(1) == Some(b"shim") && names_it("cmdline")
        };
        if own_shim_or_job {
            let pid = nix::unistd::Pid::from_raw(pid);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// `baton ARGS` against the coordinators at `addresses`, with nothing of this program's
/// environment.
pub(crate) fn client(home: &Path, addresses: &str, args: &[&str]) -> Command {
    let mut command = Command::new(baton());
    command
        .args(args)
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("HOME", home)
        .env("BATON_ADDR", addresses)
        .env("BATON_TOKEN", TOKEN)
        .stdin(Stdio::null());
    command
}
