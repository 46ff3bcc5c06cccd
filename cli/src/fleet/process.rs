//! One process of a local cluster: starts it, waits for its end and ends it. A process
//! group of its own, so that it can be killed alone, and outlives a `dev` that is killed.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::{fs::OpenOptionsExt as _, process::ExitStatusExt as _},
    path::Path,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

use super::layout::Member;

/// How long a process may take to stop before it is killed.
const STOP_WITHIN: Duration = Duration::from_secs(30);

/// A process that runs.
pub(super) struct Process {
    name: String,
    pid: u32,
    child: Child,
}

/// A process that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) name: String,
    pub(crate) pid: u32,
    status: io::Result<ExitStatus>,
    /// It was told to end.
    told: bool,
}

impl Process {
    /// Starts `member` with its config file.
    ///
    /// # Errors
    /// When the system refuses.
    pub(super) fn start(member: &Member, config: &Path) -> anyhow::Result<Self> {
        let name = member.name.clone();
        let start = || -> anyhow::Result<Child> {
            let program = std::env::current_exe().context("cannot find this program's own file")?;
            let log = open_log(&member.log)?;
            #[expect(clippy::disallowed_methods, reason = "the one place that starts a member")]
            let mut command = Command::new(program);
            command
                .args([member.role.command(), "--config"])
                .arg(config)
                .stdin(Stdio::null())
                .stdout(log.try_clone()?)
                .stderr(log)
                .process_group(0);
            Ok(command.spawn()?)
        };
        let child = start().with_context(|| format!("cannot start {name}"))?;
        let pid = child.id().with_context(|| format!("{name} has no process"))?;
        Ok(Self { name, pid, child })
    }

    /// Its id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Waits for its end, or ends it when `stop` becomes true.
    pub(super) async fn look_after(mut self, mut stop: watch::Receiver<bool>) -> Ended {
        let (status, told) = tokio::select! {
            status = self.child.wait() => (status, false),
            () = told(&mut stop) => (self.stop().await, true),
        };
        Ended { name: self.name, pid: self.pid, status, told }
    }

    async fn stop(&mut self) -> io::Result<ExitStatus> {
        // None once it was waited for: then the number may be another's.
        if let Some(pid) = self.child.id() {
            kill(Pid::from_raw(pid.cast_signed()), Signal::SIGTERM)?;
        }
        match timeout(STOP_WITHIN, self.child.wait()).await {
            Ok(status) => status,
            Err(_) => {
                self.child.start_kill()?;
                self.child.wait().await
            }
        }
    }
}

async fn told(stop: &mut watch::Receiver<bool>) {
    // Whoever could say so has gone: nobody wants an end.
    if stop.wait_for(|stop| *stop).await.is_err() {
        std::future::pending::<()>().await;
    }
}

impl Ended {
    /// What became of it, for people.
    pub(crate) fn how(&self) -> String {
        let who = format!("{} (pid {})", self.name, self.pid);
        match &self.status {
            Ok(status) => match (status.signal(), status.code()) {
                (Some(signal), _) => format!("{who} was killed by signal {signal}"),
                (None, code) => format!("{who} ended with exit code {}", code.unwrap_or_default()),
            },
            Err(error) => format!("{who} cannot be waited for: {error}"),
        }
    }

    /// Somebody killed it.
    pub(crate) fn is_killed(&self) -> bool {
        self.status.as_ref().is_ok_and(|status| status.signal().is_some())
    }

    /// It did as it was told, perhaps before it could do so by itself.
    pub(crate) fn is_clean(&self) -> bool {
        let as_told = |status: &ExitStatus| {
            status.success() || self.told && status.signal() == Some(Signal::SIGTERM as i32)
        };
        self.status.as_ref().is_ok_and(as_told)
    }
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    log.with_context(|| format!("cannot open {}", path.display()))
}

/// The process that a member was is still there: one with that id was started with the
/// member's config file.
pub(super) fn is_running(pid: u32, config: &Path) -> bool {
    let Ok(arguments) = std::fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    let config = config.as_os_str().as_encoded_bytes();
    arguments.split(|byte| *byte == 0).any(|argument| argument == config)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_with_its_signal_or_its_code() {
        let ended =
            |status| Ended { name: "runner-1".to_owned(), pid: 7, status: Ok(status), told: false };
        let killed = ended(ExitStatus::from_raw(9));
        assert_eq!(killed.how(), "runner-1 (pid 7) was killed by signal 9");
        let failed = ended(ExitStatus::from_raw(1 << 8));
        assert_eq!(failed.how(), "runner-1 (pid 7) ended with exit code 1");
        assert!(
            !killed.is_clean() && !failed.is_clean() && ended(ExitStatus::from_raw(0)).is_clean()
        );
        let young = ended(ExitStatus::from_raw(15));
        assert!(!young.is_clean() && Ended { told: true, ..young }.is_clean());
    }

    #[test]
    fn another_process_with_the_number_of_a_member_is_not_taken_for_it() {
        assert!(!is_running(std::process::id(), Path::new("/nowhere/runner-1.toml")));
        let argument = std::env::args_os().next().unwrap();
        assert!(is_running(std::process::id(), Path::new(&argument)));
    }
}
