//! Coordinators and runners as processes of this host, for `dev`: starts them, looks
//! after them and stops them. What is said to a person is the command's concern.

mod control;
mod layout;
mod process;
mod ready;

use std::{
    fs::{File, OpenOptions},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use anyhow::Context as _;
use nix::fcntl::{Flock, FlockArg};
use tokio::{sync::watch, task::JoinSet};

pub(crate) use self::{
    control::{Answer, Caller, Requests, Start, ask},
    layout::{Layout, Member, Role, RunnerOptions},
    process::Ended,
    ready::{heartbeat, serves},
};
use self::{process::Process, ready::all_serve};
use crate::{
    connect::Cluster,
    local::end_jobs_in_time,
    local_folder::{kept_token, write_env},
    messages::Messages,
};

/// A local cluster of processes. They outlive it, unless it is stopped.
pub(crate) struct Fleet {
    layout: Layout,
    runners: RunnerOptions,
    cluster: Cluster,
    token: String,
    processes: JoinSet<Ended>,
    stop_runners: watch::Sender<bool>,
    stop_coordinators: watch::Sender<bool>,
    /// Keeps other processes from looking after the same folder.
    _lock: Flock<File>,
}

impl Fleet {
    /// Makes `dir` ready for so many coordinators and runners; starts none yet.
    ///
    /// # Errors
    /// When somebody else uses the folder, or it has more members already.
    pub(crate) fn open(
        dir: &Path,
        coordinators: usize,
        runners: usize,
        options: RunnerOptions,
    ) -> anyhow::Result<Self> {
        let token = kept_token(dir)?;
        let lock = lock(dir)?;
        let mut layout = Layout::plan(dir, coordinators, runners)?;
        refuse_running(&layout)?;
        layout.none_runs()?;
        let endpoint = write_env(dir, &layout.addresses(), &token)?;
        Ok(Self {
            layout,
            runners: options,
            cluster: Cluster::own(endpoint),
            token,
            processes: JoinSet::new(),
            stop_runners: watch::Sender::default(),
            stop_coordinators: watch::Sender::default(),
            _lock: lock,
        })
    }

    /// Who there is.
    pub(crate) fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Starts everybody; they serve when this returns.
    ///
    /// # Errors
    /// What keeps one of them from it; some may run.
    pub(crate) async fn start_all(&mut self) -> anyhow::Result<()> {
        let names: Vec<_> =
            self.layout.members().iter().map(|member| member.name.clone()).collect();
        for name in names {
            self.start(&name)?;
        }
        let (layout, token) = (self.layout.clone(), self.token.clone());
        tokio::select! {
            ready = all_serve(&layout, &token) => ready,
            ended = self.ended() => {
                let ended = ended?;
                let log = layout.member(&ended.name)?.log.display();
                anyhow::bail!("{}; see {log}", ended.how())
            }
        }
    }

    /// Starts a member that does not run; the id of its process.
    ///
    /// # Errors
    /// When there is no such member, or it runs.
    pub(crate) fn start(&mut self, name: &str) -> anyhow::Result<u32> {
        let member = self.layout.member(name)?.clone();
        if let Some(pid) = member.pid {
            anyhow::bail!("{name} runs already (pid {pid})");
        }
        self.layout.write_config(&member, &self.runners)?;
        let process = Process::start(&member, &self.layout.config(name))?;
        let pid = process.pid();
        let stop = match member.role {
            Role::Coordinator => self.stop_coordinators.subscribe(),
            Role::Runner => self.stop_runners.subscribe(),
        };
        self.processes.spawn(process.look_after(stop));
        self.layout.set_pid(name, Some(pid))?;
        Ok(pid)
    }

    /// Waits until one of the processes ends. Giving up the wait loses none.
    ///
    /// # Errors
    /// When that cannot be noted in `members.json`.
    pub(crate) async fn ended(&mut self) -> anyhow::Result<Ended> {
        let Some(ended) = self.processes.join_next().await else {
            return std::future::pending().await;
        };
        let ended = ended.context("a task that looks after a process has failed")?;
        self.layout.set_pid(&ended.name, None)?;
        Ok(ended)
    }

    /// Cancels whatever still runs, waits until it has ended, and stops everybody.
    ///
    /// # Errors
    /// When jobs may be left; everybody is stopped all the same.
    pub(crate) async fn stop_with_jobs(self, messages: Messages) -> anyhow::Result<()> {
        let ended = end_jobs_in_time(&self.cluster, messages).await;
        self.stop(messages).await.and(ended)
    }

    /// Stops the runners and then the coordinators; jobs that run go on.
    ///
    /// # Errors
    /// When that cannot be noted in `members.json`.
    pub(crate) async fn stop(mut self, messages: Messages) -> anyhow::Result<()> {
        self.stop_runners.send_replace(true);
        while self.is_any_running(Role::Runner) {
            self.stopped(messages).await?;
        }
        self.stop_coordinators.send_replace(true);
        while self.is_any_running(Role::Coordinator) {
            self.stopped(messages).await?;
        }
        Ok(())
    }

    fn is_any_running(&self, role: Role) -> bool {
        self.layout.members().iter().any(|member| member.role == role && member.pid.is_some())
    }

    async fn stopped(&mut self, messages: Messages) -> anyhow::Result<()> {
        let ended = self.ended().await?;
        if !ended.is_clean() {
            messages.note(&ended.how());
        }
        Ok(())
    }
}

fn lock(dir: &Path) -> anyhow::Result<Flock<File>> {
    let path = dir.join("dev.lock");
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = file.with_context(|| format!("cannot open {}", path.display()))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock).map_err(|_| {
        let dir = dir.display();
        anyhow::anyhow!(
            "another `baton dev` looks after {dir}; stop it first, or take another folder"
        )
    })
}

/// Members that a killed `dev` left go on: whoever wants to start anew ends them first.
fn refuse_running(layout: &Layout) -> anyhow::Result<()> {
    let running = |member: &&Member| {
        member.pid.is_some_and(|pid| process::is_running(pid, &layout.config(&member.name)))
    };
    let running: Vec<_> = layout.members().iter().filter(running).collect();
    if running.is_empty() {
        return Ok(());
    }
    let names: Vec<_> = running.iter().map(|member| member.name.as_str()).collect();
    let pids: Vec<_> = running.iter().filter_map(|member| Some(member.pid?.to_string())).collect();
    anyhow::bail!(
        "{} of an earlier `baton dev` still run; stop them with: kill {}",
        names.join(", "),
        pids.join(" ")
    )
}
