//! A fleet with one runner that has all there is: processes of this host, containers, and a
//! target that it reaches over SSH.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use baton_proto::v1::{self, executor::Kind};

use crate::{
    docker::{self, Image},
    fleet::Fleet,
    ssh::Server,
    wait,
};

/// The name of the runner, and that of its target.
const RUNNER: &str = "one";
const TARGET: &str = "lab";

/// Where a job can run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Where {
    /// As a process of this host.
    Local,
    /// In a container.
    Docker,
    /// On the target.
    Ssh,
}

impl Where {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Local, Self::Docker, Self::Ssh];
}

/// A fleet whose runner runs jobs everywhere. All of it ends with this.
pub struct Everywhere {
    /// The fleet.
    pub fleet: Fleet,
    image: Image,
    server: Server,
}

impl Everywhere {
    /// None, said loudly, without a Docker engine or an SSH server.
    pub async fn start(slots: u32) -> Option<Self> {
        docker::or_skip()?;
        let server = Server::start(&[])?;
        let mut fleet = Fleet::start(&[]).await;
        let shown = |path: PathBuf| path.display().to_string();
        let workspaces = shown(fleet.folder().join("workspaces"));
        std::fs::create_dir(&workspaces).unwrap();
        let settings = format!(
            "workspaces = {workspaces:?}\n[git]\nprotocols = [\"file\"]\n[docker]\n\
             mounts = [{workspaces:?}]\n[ssh]\nuser = {:?}\nkey = {:?}\nknown_hosts = {:?}\n\
             workspaces = {workspaces:?}\n[ssh.targets.{TARGET}]\naddress = \"127.0.0.1:{}\"\n\
             slots = {slots}\nbase = {:?}\n",
            Server::user(),
            shown(server.key()),
            shown(server.known_hosts()),
            server.port(),
            shown(server.path("base")),
        );
        let file = fleet.folder().join("runner.toml");
        std::fs::write(&file, settings).unwrap();
        let (file, slots) = (shown(file), slots.to_string());
        fleet.add_runner(RUNNER, &["--config", &file, "--slots", &slots]).await;
        Some(Self { fleet, image: Image::make(), server })
    }

    /// The folder below which jobs find workspaces, wherever they run.
    #[must_use]
    pub fn workspaces(&self) -> PathBuf {
        self.fleet.folder().join("workspaces")
    }

    /// The options of `baton run` for a job there.
    #[must_use]
    pub fn options(&self, place: Where) -> Vec<&str> {
        match place {
            Where::Local => vec![],
            Where::Docker => vec!["--image", self.image.name()],
            Where::Ssh => vec!["--target", TARGET],
        }
    }

    /// `sh -c SCRIPT` there without Baton, as somebody would do it by hand.
    #[must_use]
    pub fn by_hand(&self, place: Where, script: &str) -> Command {
        match place {
            Where::Local => {
                let mut sh = Command::new("sh");
                sh.args(["-c", script]);
                sh
            }
            Where::Docker => {
                let mut docker = Command::new("docker");
                docker.args(["run", "--rm", self.image.name(), "sh", "-c", script]);
                docker
            }
            Where::Ssh => self.server.ssh(&["sh", "-c", &format!("'{script}'")]),
        }
    }

    /// A job of `sh -c SCRIPT` there.
    #[must_use]
    pub fn job(&self, place: Where, script: &str) -> v1::JobSpec {
        let kind = match place {
            Where::Local => Kind::Local(v1::LocalExecutor {}),
            Where::Docker => {
                let image = self.image.name().to_owned();
                Kind::Docker(v1::DockerExecutor { image, ..v1::DockerExecutor::default() })
            }
            Where::Ssh => Kind::Ssh(v1::SshExecutor { target: TARGET.to_owned() }),
        };
        v1::JobSpec {
            command: ["sh", "-c", script].map(str::to_owned).into(),
            executor: Some(v1::Executor { kind: Some(kind) }),
            ..v1::JobSpec::default()
        }
    }

    /// SIGKILL to the runner, and a new one in its place.
    pub fn kill_runner(&mut self) {
        self.fleet.kill_runner(RUNNER);
        self.fleet.start_runner(RUNNER);
    }

    /// How many files the runner has open.
    #[must_use]
    pub fn open_files(&self) -> usize {
        let files = format!("/proc/{}/fd", self.fleet.runner_pid(RUNNER));
        std::fs::read_dir(files).unwrap().count()
    }

    /// What there is of jobs, for people: folders, processes, and what the engine has.
    pub async fn left(&self) -> String {
        let data = self.fleet.runner_folder(RUNNER);
        let base = self.server.path("base");
        let folders = [data.join("attempts"), data.join("trash"), base.join("attempts")];
        let mut left: Vec<String> = folders.iter().flat_map(|folder| names(folder)).collect();
        left.push(Server::left(&base));
        left.push(self.shims(&data));
        let runner = self.fleet.baton(&["runners", "show", RUNNER, "-o", "json"]).await;
        let runner: serde_json::Value = serde_json::from_slice(&runner.stdout).unwrap();
        left.push(docker::list(&format!("label=baton.runner={}", runner["id"].as_str().unwrap())));
        left.retain(|text| !text.is_empty());
        left.join("\n")
    }

    /// The processes below the runner, and those that have something of it in their command
    /// line, but itself.
    fn shims(&self, data: &Path) -> String {
        let (data, runner) = (data.to_str().unwrap(), self.fleet.runner_pid(RUNNER).to_string());
        let processes = names(Path::new("/proc"));
        let told = processes.iter().filter(|pid| **pid != runner).filter_map(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            line.contains(data).then(|| format!("{pid}: {line}"))
        });
        told.collect::<Vec<_>>().join("\n")
    }

    /// Waits until nothing is left of any job.
    ///
    /// # Panics
    /// When something stays.
    pub async fn nothing_is_left(&self) {
        let mut left = String::new();
        let start = std::time::Instant::now();
        while start.elapsed() < wait::LIMIT {
            left = self.left().await;
            if left.is_empty() {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("something is left: {left}");
    }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
