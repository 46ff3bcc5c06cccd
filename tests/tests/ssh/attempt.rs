//! One attempt on a target: its folder here, what it runs there, and what came of it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::Duration,
};

use baton_proto::v1;
use baton_runner::executor::{
    AttemptDir, Control, Execution, Executor as _, Exit, Launch, Names, Notes, Place, Progress,
    Recovered, Resources, StopCause, Unready,
    local::LocalExecutor,
    ssh::{Address, SshExecutor, TargetConfig, remote::Login},
};
use baton_tests::{
    baton,
    spool::Log,
    ssh::{Server, Way},
    wait::{until, within},
};
use futures::future::BoxFuture;
use tempfile::TempDir;

/// A limit that is never reached.
const FOREVER: Duration = Duration::from_secs(100_000);
/// The runner that all attempts belong to.
pub(crate) const RUNNER: &str = "runner-of-the-test";

/// A target, and the way to it.
pub(crate) struct Target {
    pub(crate) server: Server,
    pub(crate) way: Way,
    pub(crate) executor: SshExecutor,
    pub(crate) base: PathBuf,
}

impl Target {
    /// A server with further lines in its settings.
    pub(crate) async fn with(settings: &[String]) -> Option<Self> {
        let server = Server::start(settings)?;
        let way = Way::to(server.port()).await;
        // Its key is known under the port that is connected to.
        let line = server.known_hosts_line("host");
        let line = line.replace(&server.port().to_string(), &way.port().to_string());
        std::fs::write(server.known_hosts(), line).unwrap();
        let base = server.path("base");
        let mut target = config(&server);
        target.address.port = way.port();
        target.base = base.display().to_string();
        let executor = executor([("target", target)], "target");
        Some(Self { server, way, executor, base })
    }

    /// None, said loudly, where there is no sshd.
    pub(crate) async fn find() -> Option<Self> {
        Self::with(&[]).await
    }

    /// One on which a shell finds the programs in `folder` and no others.
    pub(crate) async fn with_commands(folder: &TempDir) -> Option<Self> {
        let path = folder.path().display();
        // The user's own shell is not a part of it.
        Self::with(&[format!("SetEnv PATH={path}"), "ForceCommand sh".to_owned()]).await
    }

    pub(crate) async fn place(&self) -> Place {
        prepare(&self.executor).await.unwrap()
    }

    /// The folders of attempts that are there.
    pub(crate) fn folders(&self) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.base.join("attempts")).into_iter().flatten();
        entries.map(|entry| entry.unwrap().path()).collect()
    }

    /// Waits until nothing of any attempt is there any more. What reads the output needs a
    /// moment to notice that nobody listens.
    pub(crate) async fn is_clean(&self) {
        let nothing = async || {
            let left = Server::left(&self.base);
            (self.folders().is_empty() && left.is_empty()).then_some(())
        };
        until("nothing to be left on the target", nothing).await;
    }
}

/// The settings for a server.
pub(crate) fn config(server: &Server) -> TargetConfig {
    TargetConfig {
        address: Address { host: "127.0.0.1".to_owned(), port: server.port() },
        user: Server::user(),
        login: Login::Key(server.key()),
        known_hosts: server.known_hosts(),
        jump: None,
        labels: BTreeSet::new(),
        slots: 4,
        base: server.path("base").display().to_string(),
        workspaces: None,
    }
}

/// An executor for the target `name` of these.
pub(crate) fn executor<const N: usize>(
    targets: [(&str, TargetConfig); N],
    name: &str,
) -> SshExecutor {
    let shims = LocalExecutor::new(vec![baton().into(), "shim".into()]);
    let targets = targets.map(|(name, target)| (name.to_owned(), target)).into();
    SshExecutor::new(&targets, name, shims)
}

struct NoNotes;

impl Notes for NoNotes {
    fn add<'a>(&'a self, line: &'a str) -> BoxFuture<'a, ()> {
        panic!("{line}");
    }
}

/// Whether the target can be had.
pub(crate) async fn prepare(executor: &SshExecutor) -> Result<Place, Unready> {
    within("the target", executor.prepare(&v1::Executor::default(), &NoNotes)).await
}

/// A launch of `sh -c SCRIPT` without any limit.
pub(crate) fn sh(script: &str) -> Launch {
    command(&["sh", "-c", script])
}

/// A launch without any limit.
pub(crate) fn command(words: &[&str]) -> Launch {
    Launch {
        command: words.iter().map(ToString::to_string).collect(),
        env: BTreeMap::new(),
        soft_timeout: FOREVER,
        hard_timeout: FOREVER,
        output_limit: 256 << 20,
        leaves: Default::default(),
        lease_limit: None,
        lease_renewed: Duration::ZERO,
        place: Place::Host,
        masks: Default::default(),
        resources: Resources::default(),
        names: Names::default(),
        workspace: None,
        open_files: None,
    }
}

/// Time since the host's boot, by which leases are measured.
pub(crate) fn boottime() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap().into()
}

/// An attempt that runs.
pub(crate) struct Attempt<'a> {
    target: &'a Target,
    pub(crate) dir: AttemptDir,
    pub(crate) execution: Execution,
    _folder: TempDir,
}

/// A folder for an attempt.
pub(crate) fn folder() -> (TempDir, AttemptDir) {
    let folder = tempfile::Builder::new().prefix("baton-ssh-").tempdir().unwrap();
    let dir = AttemptDir::new(folder.path().canonicalize().unwrap().join("attempt"));
    std::fs::create_dir_all(dir.work()).unwrap();
    std::fs::create_dir_all(dir.tmp()).unwrap();
    (folder, dir)
}

impl<'a> Attempt<'a> {
    pub(crate) async fn start(target: &'a Target, launch: Launch) -> Self {
        Self::start_in(target, launch, folder()).await
    }

    pub(crate) async fn start_in(
        target: &'a Target,
        mut launch: Launch,
        (folder, dir): (TempDir, AttemptDir),
    ) -> Self {
        launch.place = target.place().await;
        launch.names = Names { runner: RUNNER.to_owned(), job: "job".to_owned(), lease: 7 };
        let execution = target.executor.start(&dir, &launch).await.unwrap();
        Self { target, dir, execution, _folder: folder }
    }

    /// Runs one to its end.
    pub(crate) async fn run(target: &Target, launch: Launch) -> (Exit, Log) {
        Attempt::start(target, launch).await.end().await
    }

    /// Waits for the recorded end; then nothing is left on the target.
    pub(crate) async fn end(mut self) -> (Exit, Log) {
        match self.over().await {
            Progress::Done(exit) => {
                assert!(exit.tree_gone);
                let log = self.log();
                assert!(log.whole, "the output has no end");
                (exit, log)
            }
            other => panic!("not a recorded end: {other:?}, {:?}", self.log().notes),
        }
    }

    /// Waits for the end of whatever kind; then nothing is left on the target.
    pub(crate) async fn over(&mut self) -> Progress {
        let end = self.execution.progress.wait_for(Progress::is_over);
        let progress = within("the job's end", end).await.unwrap().clone();
        self.target.is_clean().await;
        progress
    }

    pub(crate) async fn ask(&self, control: Control) {
        self.execution.control.send(control).await.unwrap();
    }

    pub(crate) async fn cancel(&self, grace: Duration) {
        self.ask(Control::Stop { cause: StopCause::Cancelled, grace }).await;
    }

    /// Waits until the log is as wanted.
    pub(crate) async fn logged(&mut self, what: &str, wanted: impl Fn(&Log) -> bool) -> Log {
        let seen = async {
            loop {
                self.execution.spool_length.borrow_and_update();
                let log = self.log();
                if wanted(&log) {
                    return log;
                }
                let changed = self.execution.spool_length.changed().await;
                assert!(changed.is_ok(), "it ended before {what}: {:?}", self.log());
            }
        };
        within(what, seen).await
    }

    /// Waits until the job has written `text`.
    pub(crate) async fn wrote(&mut self, text: &str) -> String {
        self.logged(text, |log| log.text().contains(text)).await.text().to_owned()
    }

    /// Lets go of it, and has a new runner find it.
    pub(crate) async fn found_by(self, executor: &SshExecutor) -> Self {
        match executor.recover(&self.dir).await.unwrap() {
            Recovered::Started(execution) => Self { execution, ..self },
            Recovered::NotStarted => panic!("it was started"),
        }
    }

    /// The processes of this host that watch over it, by whether they are `what`.
    pub(crate) fn watchers(&self, what: &str) -> Vec<i32> {
        let path = self.dir.path().to_str().unwrap();
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        let watches = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.trim_end().ends_with(path) && line.contains(&format!(" {what} "))
        };
        numbers.filter(watches).collect()
    }

    /// What is in the spool now. The last frame may be on its way.
    pub(crate) fn log(&self) -> Log {
        Log::read(&self.dir.spool())
    }
}
