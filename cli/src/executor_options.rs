//! Where a job runs and what it may use: the options, and the message they become.

use baton_proto::v1::{self, executor::Kind};
use clap::{Args, ValueEnum};

use crate::{exit::UsageError, quantities::Size};

/// Where a job runs and what it may use.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Executor")]
pub(crate) struct ExecutorOptions {
    /// Where the command runs: as a process of the runner's host, in a container, or on
    /// another host [default: docker with --image, ssh with --target, else local]
    #[arg(long, value_enum, value_name = "EXECUTOR")]
    pub(crate) executor: Option<ExecutorKind>,
    /// Image of the container, such as debian:12
    #[arg(long, value_name = "IMAGE")]
    pub(crate) image: Option<String>,
    /// When to pull the image [default: missing]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub(crate) pull: Option<Pull>,
    /// Program that the command is added to, in place of the image's entrypoint; empty for
    /// none
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) entrypoint: Option<String>,
    /// User in the container, name or number, also with a group [default: the image's]
    #[arg(long, value_name = "USER[:GROUP]")]
    pub(crate) user: Option<String>,
    /// Network of the container: bridge, none, or one that the runner's settings allow
    /// [default: bridge]
    #[arg(long, value_name = "NETWORK")]
    pub(crate) network: Option<String>,
    /// Folder of the runner's host in the container, if the runner's settings allow it; may
    /// be repeated
    #[arg(long = "mount", value_name = "SOURCE:TARGET[:ro]", value_parser = mount)]
    pub(crate) mounts: Vec<Mount>,
    /// Folder in memory in the container; may be repeated
    #[arg(long, value_name = "TARGET[:SIZE]", value_parser = tmpfs)]
    pub(crate) tmpfs: Vec<Tmpfs>,
    /// Container beside the job, which finds it by its name; may be repeated (a job file can
    /// also say its variables, command and health check)
    #[arg(long = "service", value_name = "NAME=IMAGE", value_parser = service)]
    pub(crate) services: Vec<Service>,
    /// Host to run on, by its name in the runner's settings
    #[arg(long, value_name = "TARGET")]
    pub(crate) target: Option<String>,
    /// Processors that the job may use, such as 0.5 or 2 [default: no limit]
    #[arg(long, value_name = "N", value_parser = cpus)]
    pub(crate) cpus: Option<Cpus>,
    /// Memory that the job may use, such as 512MiB; it is killed when it needs more
    /// [default: no limit]
    #[arg(long, value_name = "BYTES", value_parser = memory)]
    pub(crate) memory: Option<Size>,
    /// Processes and threads that the job may have at once [default: no limit]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) processes: Option<u32>,
    /// Files that each of its processes may have open at once [default: the runner's]
    #[arg(long, value_name = "N", value_parser = count)]
    pub(crate) open_files: Option<u32>,
}

/// Where the command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ExecutorKind {
    /// As a process of the runner's host
    Local,
    /// In a container
    Docker,
    /// On a host that the runner reaches over SSH
    Ssh,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Pull {
    /// When the engine does not have it
    Missing,
    /// Each time
    Always,
    /// Not at all
    Never,
}

/// Thousandths of a processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpus(pub(crate) u32);

/// A folder of the runner's host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mount(v1::Mount);

/// A folder in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tmpfs(v1::Tmpfs);

/// A container beside the job.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Service(pub(crate) v1::Service);

impl ExecutorOptions {
    /// The executor that is meant; None where nothing is said.
    ///
    /// # Errors
    /// [`UsageError`] when the options contradict each other.
    pub(crate) fn executor(&self) -> Result<Option<v1::Executor>, UsageError> {
        let kind = match (self.executor, &self.image, &self.target) {
            (_, Some(_), Some(_)) => {
                return Err(wrong("target", "an image is for docker, and a target for ssh"));
            }
            (None, None, None) => None,
            (None, Some(_), None) => Some(ExecutorKind::Docker),
            (None, None, Some(_)) => Some(ExecutorKind::Ssh),
            (Some(kind), _, _) => Some(kind),
        };
        if kind != Some(ExecutorKind::Docker)
            && let Some(option) = self.only_for_docker()
        {
            return Err(wrong(option, "is for a job with --image"));
        }
        let kind = match kind {
            None => return Ok(None),
            Some(ExecutorKind::Local) if self.target.is_some() => {
                return Err(wrong("target", "is for --executor ssh"));
            }
            Some(ExecutorKind::Local) => Kind::Local(v1::LocalExecutor {}),
            Some(ExecutorKind::Docker) => Kind::Docker(self.docker()?),
            Some(ExecutorKind::Ssh) => Kind::Ssh(self.ssh()?),
        };
        Ok(Some(v1::Executor { kind: Some(kind) }))
    }

    /// What the job may use; None where nothing is said.
    pub(crate) fn resources(&self) -> Option<v1::Resources> {
        let resources = v1::Resources {
            cpu_millis: self.cpus.map_or(0, |cpus| cpus.0),
            memory: self.memory.map_or(0, |memory| memory.0),
            processes: self.processes.unwrap_or_default(),
            open_files: self.open_files.unwrap_or_default(),
        };
        (resources != v1::Resources::default()).then_some(resources)
    }

    fn only_for_docker(&self) -> Option<&'static str> {
        let given = [
            ("image", self.image.is_some()),
            ("pull", self.pull.is_some()),
            ("entrypoint", self.entrypoint.is_some()),
            ("user", self.user.is_some()),
            ("network", self.network.is_some()),
            ("mount", !self.mounts.is_empty()),
            ("tmpfs", !self.tmpfs.is_empty()),
            ("service", !self.services.is_empty()),
        ];
        given.into_iter().find_map(|(option, given)| given.then_some(option))
    }

    fn docker(&self) -> Result<v1::DockerExecutor, UsageError> {
        let image = self.image.clone();
        let image = image.ok_or_else(|| wrong("image", "is needed with --executor docker"))?;
        if self.target.is_some() {
            return Err(wrong("target", "is for --executor ssh"));
        }
        let pull = match self.pull {
            None | Some(Pull::Missing) => v1::PullPolicy::Missing,
            Some(Pull::Always) => v1::PullPolicy::Always,
            Some(Pull::Never) => v1::PullPolicy::Never,
        };
        Ok(v1::DockerExecutor {
            image,
            pull: pull.into(),
            entrypoint: self.entrypoint.iter().cloned().collect(),
            user: self.user.clone().unwrap_or_default(),
            network: self.network.clone().unwrap_or_default(),
            mounts: self.mounts.iter().map(|mount| mount.0.clone()).collect(),
            tmpfs: self.tmpfs.iter().map(|tmpfs| tmpfs.0.clone()).collect(),
            services: self.services.iter().map(|service| service.0.clone()).collect(),
        })
    }

    fn ssh(&self) -> Result<v1::SshExecutor, UsageError> {
        let target = self.target.clone();
        let target = target.ok_or_else(|| wrong("target", "is needed with --executor ssh"))?;
        Ok(v1::SshExecutor { target })
    }
}

fn wrong(option: &str, problem: &str) -> UsageError {
    UsageError(format!("--{option}: {problem}"))
}

/// An executor by the name that it has as an option.
pub(crate) fn executor_kind(text: &str) -> Result<ExecutorKind, String> {
    ExecutorKind::from_str(text, false).map_err(|_| "must be local, docker or ssh".to_owned())
}

/// A policy by the name that it has as an option.
pub(crate) fn pull(text: &str) -> Result<Pull, String> {
    Pull::from_str(text, false).map_err(|_| "must be missing, always or never".to_owned())
}

/// `SOURCE:TARGET`, and `:ro` for one that the job cannot change.
pub(crate) fn mount(text: &str) -> Result<Mount, String> {
    let (paths, read_only) = match text.strip_suffix(":ro") {
        Some(paths) => (paths, true),
        None => (text, false),
    };
    match paths.split_once(':') {
        Some((source, target)) if !source.is_empty() && !target.contains(':') => {
            let (source, target) = (source.to_owned(), target.to_owned());
            Ok(Mount(v1::Mount { source, target, read_only }))
        }
        _ => Err("not of the form SOURCE:TARGET or SOURCE:TARGET:ro".to_owned()),
    }
}

/// `TARGET`, and `:SIZE` for a limit of its own.
pub(crate) fn tmpfs(text: &str) -> Result<Tmpfs, String> {
    let (target, size) = match text.split_once(':') {
        Some((target, size)) => (target, size.parse::<Size>()?.0),
        None => (text, 0),
    };
    Ok(Tmpfs(v1::Tmpfs { target: target.to_owned(), size }))
}

/// `NAME=IMAGE`.
fn service(text: &str) -> Result<Service, String> {
    match text.split_once('=') {
        Some((name, image)) if !name.is_empty() && !image.is_empty() => {
            let (name, image) = (name.to_owned(), image.to_owned());
            Ok(Service(v1::Service { name, image, ..v1::Service::default() }))
        }
        _ => Err("not of the form NAME=IMAGE".to_owned()),
    }
}

/// A number of processors, as thousandths.
pub(crate) fn cpus(text: &str) -> Result<Cpus, String> {
    let wrong = || "not a number of processors, such as 0.5 or 2".to_owned();
    let number: f64 = text.parse().map_err(|_| wrong())?;
    let millis = number * 1000.0;
    if !(10.0..=10_000_000.0).contains(&millis) {
        return Err("must be from 0.01 to 10,000 processors".to_owned());
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "within its range")]
    let millis = millis.round() as u32;
    Ok(Cpus(millis))
}

/// For the API no limit and zero are the same.
pub(crate) fn memory(text: &str) -> Result<Size, String> {
    match text.parse()? {
        Size(0) => Err("must be at least 6MiB".to_owned()),
        limit => Ok(limit),
    }
}

/// For the API no limit and zero are the same.
pub(crate) fn count(text: &str) -> Result<u32, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("not a whole number from 1".to_owned()),
        Ok(count) => Ok(count),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        options: ExecutorOptions,
    }

    fn executor(line: &str) -> Result<Option<Kind>, String> {
        let words = ["baton"].into_iter().chain(line.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        let executor = line.options.executor().map_err(|error| error.to_string())?;
        Ok(executor.and_then(|executor| executor.kind))
    }

    #[test]
    fn the_executor_follows_from_what_is_given() {
        assert_eq!(executor(""), Ok(None));
        assert!(matches!(executor("--executor local"), Ok(Some(Kind::Local(_)))));
        assert!(matches!(executor("--image a"), Ok(Some(Kind::Docker(_)))));
        assert!(matches!(executor("--target a"), Ok(Some(Kind::Ssh(_)))));
    }

    #[test]
    fn contradictions_are_named_by_their_option() {
        for (line, option) in [
            ("--executor docker", "--image"),
            ("--executor ssh", "--target"),
            ("--executor local --image a", "--image"),
            ("--executor local --target a", "--target"),
            ("--image a --target b", "--target"),
            ("--user node", "--user"),
            ("--executor ssh --target a --pull never", "--pull"),
        ] {
            let message = executor(line).unwrap_err();
            assert!(message.starts_with(&format!("{option}: ")), "{line}: {message}");
        }
    }

    #[test]
    fn every_option_of_a_container_reaches_the_message() {
        let line = "--image debian:12 --pull never --entrypoint sh --user 7:8 --network none \
                    --mount /a:/b:ro --mount /c:/d --tmpfs /run:1MiB --tmpfs /t --service db=pg:1";
        let Ok(Some(Kind::Docker(docker))) = executor(line) else { panic!("no container") };
        assert_eq!((docker.image.as_str(), docker.pull()), ("debian:12", v1::PullPolicy::Never));
        assert_eq!((docker.user.as_str(), docker.network.as_str()), ("7:8", "none"));
        assert_eq!(docker.entrypoint, ["sh"]);
        let mounts: Vec<_> = docker.mounts.iter().map(|it| (&*it.source, it.read_only)).collect();
        assert_eq!(mounts, [("/a", true), ("/c", false)]);
        let tmpfs: Vec<_> = docker.tmpfs.iter().map(|it| (&*it.target, it.size)).collect();
        assert_eq!(tmpfs, [("/run", 1 << 20), ("/t", 0)]);
        assert_eq!((&*docker.services[0].name, &*docker.services[0].image), ("db", "pg:1"));
    }

    #[test]
    fn what_is_no_limit_is_refused() {
        for wrong in [
            "--cpus 0",
            "--cpus x",
            "--cpus -1",
            "--cpus NaN",
            "--memory 0",
            "--processes 0",
            "--mount a",
            "--service db",
            "--tmpfs /a:b",
        ] {
            assert!(executor(wrong).is_err(), "{wrong}");
        }
        let line = Line::try_parse_from(["baton", "--cpus", "1.5", "--memory", "1GiB"]).unwrap();
        let resources = line.options.resources().unwrap();
        assert_eq!((resources.cpu_millis, resources.memory), (1500, 1 << 30));
    }
}
