//! One attempt over a backend: its folder, what it runs, and what came of it.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use baton_runner::{
    Chosen, Leaves,
    executor::{
        AttemptDir, Control, Execution, Executor, Exit, Launch, Names, Place, Progress, Recovered,
        Resources, StopCause,
    },
};
use baton_tests::spool::Log;
use tempfile::TempDir;
use tokio::time::timeout;

use crate::backend::Backend;

/// Longer than anything here takes on the slowest machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
/// A limit that is never reached.
const FOREVER: Duration = Duration::from_secs(100_000);

/// An attempt that runs.
pub(crate) struct Attempt<'a> {
    backend: &'a dyn Backend,
    executor: Arc<dyn Executor>,
    dir: AttemptDir,
    execution: Option<Execution>,
    _folder: TempDir,
}

/// Where what a job left is on this host when it has ended.
pub(crate) struct Left {
    pub(crate) artifacts: PathBuf,
    pub(crate) caches: PathBuf,
    pub(crate) output: PathBuf,
    /// It is not where the job was.
    pub(crate) is_brought: bool,
    _folder: TempDir,
}

/// A launch of `sh -c SCRIPT` without any limit.
pub(crate) fn sh(script: &str) -> Launch {
    command(&["sh", "-c", script])
}

/// A launch without any limit. Where it runs is for the backend to fill in.
pub(crate) fn command(words: &[&str]) -> Launch {
    Launch {
        command: words.iter().map(ToString::to_string).collect(),
        env: BTreeMap::from([("PATH".to_owned(), "/usr/bin:/bin".to_owned())]),
        soft_timeout: FOREVER,
        hard_timeout: FOREVER,
        output_limit: 64 << 20,
        leaves: Leaves::default(),
        lease_limit: None,
        lease_renewed: Duration::ZERO,
        place: Default::default(),
        masks: Default::default(),
        resources: Resources::default(),
        names: Names::default(),
        workspace: None,
        open_files: None,
    }
}

/// Of these names in the work folder, as much as anybody could want.
pub(crate) fn chosen(names: &[&str]) -> Chosen {
    let names = names.iter().map(ToString::to_string).collect();
    Chosen { names, bytes: 1 << 30, files: 1_000 }
}

/// Time since the host's boot, by which leases are measured.
pub(crate) fn boottime() -> Duration {
    nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME).unwrap().into()
}

impl<'a> Attempt<'a> {
    /// Starts one with an empty work folder.
    pub(crate) async fn start(backend: &'a dyn Backend, launch: Launch) -> Self {
        Self::start_with(backend, launch, &[]).await
    }

    /// Starts one that brings files along.
    pub(crate) async fn start_with(
        backend: &'a dyn Backend,
        mut launch: Launch,
        files: &[(&str, &str)],
    ) -> Self {
        let folder = tempfile::Builder::new().prefix("baton-test-").tempdir().unwrap();
        let path = folder.path().canonicalize().unwrap().join("attempt");
        let dir = AttemptDir::new(path);
        std::fs::create_dir_all(dir.work()).unwrap();
        std::fs::create_dir_all(dir.tmp()).unwrap();
        for (name, content) in files {
            let file = dir.work().join(name);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, content).unwrap();
        }
        launch.place = backend.place().await;
        launch.names = Names {
            runner: "contract".to_owned(),
            job: folder.path().file_name().unwrap().to_str().unwrap().to_owned(),
            lease: 7,
        };
        if launch.place == Place::Host {
            let output = dir.output().display().to_string();
            launch.env.insert("BATON_OUTPUT".to_owned(), output);
        }
        let executor = backend.executor();
        let execution = executor.start(&dir, &launch).await.unwrap();
        Self { backend, executor, dir, execution: Some(execution), _folder: folder }
    }

    /// Runs one to its end; what it left that was wanted.
    pub(crate) async fn left(
        backend: &'a dyn Backend,
        launch: Launch,
        files: &[(&str, &str)],
    ) -> Left {
        let mut attempt = Self::start_with(backend, launch, files).await;
        let over = attempt.over().await;
        assert!(matches!(over, Progress::Done(_)), "{over:?}");
        let here = attempt.dir.path().join("left");
        let is_brought = here.exists();
        Left {
            artifacts: if is_brought { here.join("artifacts") } else { attempt.dir.work() },
            caches: if is_brought { here.join("caches") } else { attempt.dir.work() },
            output: if is_brought { here.join("baton-output") } else { attempt.dir.output() },
            is_brought,
            _folder: attempt._folder,
        }
    }

    /// Runs one to its end.
    pub(crate) async fn run(backend: &'a dyn Backend, launch: Launch) -> (Exit, Log) {
        Self::start(backend, launch).await.end().await
    }

    /// Waits for the recorded end; then nothing is left anywhere.
    pub(crate) async fn end(mut self) -> (Exit, Log) {
        match self.over().await {
            Progress::Done(exit) => {
                assert!(exit.tree_gone);
                let log = self.log();
                assert!(log.whole, "the output has no end");
                (exit, log)
            }
            other => panic!("not a recorded end: {other:?}"),
        }
    }

    /// Waits for the end of whatever kind; then nothing is left anywhere.
    pub(crate) async fn over(&mut self) -> Progress {
        let execution = self.execution.as_mut().unwrap();
        let end = execution.progress.wait_for(Progress::is_over);
        let progress = timeout(PATIENCE, end).await.expect("the job did not end").unwrap().clone();
        assert_eq!(self.backend.left(self.dir.path()).await, "");
        progress
    }

    pub(crate) async fn ask(&self, control: Control) {
        self.execution.as_ref().unwrap().control.send(control).await.unwrap();
    }

    pub(crate) async fn cancel(&self, grace: Duration) {
        self.ask(Control::Stop { cause: StopCause::Cancelled, grace }).await;
    }

    /// Waits until the job has written `text`.
    pub(crate) async fn wrote(&mut self, text: &str) {
        let seen = async {
            loop {
                let execution = self.execution.as_mut().unwrap();
                execution.spool_length.borrow_and_update();
                if self.log().text().contains(text) {
                    return;
                }
                let execution = self.execution.as_mut().unwrap();
                if execution.spool_length.changed().await.is_err() {
                    panic!("it ended before it wrote {text:?}: {:?}", self.log());
                }
            }
        };
        timeout(PATIENCE, seen).await.expect("the job never wrote it");
    }

    /// Lets go of it, and has a new runner find it.
    pub(crate) async fn change_runner(&mut self) {
        self.execution = None;
        self.executor.detach().await;
        self.executor = self.backend.executor();
        match self.executor.recover(&self.dir).await.unwrap() {
            Recovered::Started(execution) => self.execution = Some(execution),
            Recovered::NotStarted => panic!("it was started"),
        }
    }

    /// The processes of this host whose command line names the attempt: its shim, and the
    /// monitor if it has one.
    pub(crate) fn watchers(&self) -> Vec<(i32, String)> {
        let path = self.dir.path().to_str().unwrap();
        let numbers = std::fs::read_dir("/proc")
            .unwrap()
            .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok());
        let watching = numbers.filter_map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.trim_end().ends_with(path).then_some((pid, line))
        });
        watching.collect()
    }

    /// What is in the spool now. The last frame may be on its way.
    pub(crate) fn log(&self) -> Log {
        Log::read(&self.dir.spool())
    }

    /// A file in the attempt's work folder on this host.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }
}
