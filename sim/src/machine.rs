//! The jobs' processes on a runner's host, and the executor that starts them. They
//! outlive the runner and keep to their lease as the shim does: by a timer of their
//! own. What they write goes to real spool files.

use std::{
    collections::BTreeMap,
    fs::OpenOptions,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use baton_proto::{spool, v1::LogEnd};
use baton_runner::executor::{
    AttemptDir, Control, Execution, Executor, ExecutorError, Exit, ExitStatus, Launch, Progress,
    Recovered, StopCause,
};
use baton_state::{JobId, Lease};
use futures::{
    FutureExt as _,
    future::{BoxFuture, ready},
};
use tokio::sync::{mpsc, watch};

use crate::{
    bugs::{Bug, Bugs},
    facts::{Facts, Rule},
    host::{HostClock, HostId},
};

/// Requests to a process that may wait.
const REQUESTS: usize = 16;

/// A host's processes. Clones are the same host.
#[derive(Clone)]
pub struct Machine(Arc<Mutex<Processes>>);

struct Processes {
    host: HostId,
    clock: Arc<HostClock>,
    facts: Facts,
    bugs: Bugs,
    random: fastrand::Rng,
    /// By the folder of their attempt, also those that have ended.
    all: BTreeMap<PathBuf, Process>,
}

struct Process {
    job: JobId,
    lease: Lease,
    spool: PathBuf,
    started: Duration,
    /// What it would do if nobody stopped it.
    ends: Duration,
    lines: u64,
    code: i32,
    hard_timeout: Duration,
    renewed: Duration,
    lease_limit: Option<Duration>,
    /// When it has to be gone, after it was asked to stop.
    stopping: Option<(Duration, StopCause)>,
    written: u64,
    output: Vec<u8>,
    /// All that was written to the spool, also when that is gone.
    spooled: Vec<u8>,
    progress: Progress,
    follower: Option<Follower>,
}

/// A runner that follows a process.
struct Follower {
    spool_length: watch::Sender<u64>,
    progress: watch::Sender<Progress>,
    control: mpsc::Receiver<Control>,
}

/// What a job's command says: how long it takes, how many lines it writes, and the
/// code that it exits with.
#[must_use]
pub fn command(millis: u64, lines: u64, code: i32) -> Vec<String> {
    vec![millis.to_string(), lines.to_string(), code.to_string()]
}

impl Machine {
    /// A host without processes.
    #[must_use]
    pub fn new(
        host: HostId,
        clock: Arc<HostClock>,
        facts: Facts,
        bugs: Bugs,
        random: fastrand::Rng,
    ) -> Self {
        let all = BTreeMap::new();
        Self(Arc::new(Mutex::new(Processes { host, clock, facts, bugs, random, all })))
    }

    /// Lets the processes run up to what the host's clock shows.
    ///
    /// # Errors
    /// When a spool cannot be written.
    pub fn step(&self) -> io::Result<()> {
        let mut host = self.lock();
        let Processes { clock, bugs, all, .. } = &mut *host;
        let now = clock.boottime();
        for process in all.values_mut() {
            process.step(now, bugs)?;
        }
        Ok(())
    }

    /// What runs.
    #[must_use]
    pub fn running(&self) -> Vec<(JobId, Lease)> {
        let host = self.lock();
        let running = host.all.values().filter(|process| process.progress == Progress::Running);
        running.map(|process| (process.job, process.lease)).collect()
    }

    /// What the process of an attempt has written to its spool.
    #[must_use]
    pub fn spooled(&self, job: JobId, lease: Lease) -> Option<Vec<u8>> {
        let host = self.lock();
        let process =
            host.all.values().find(|process| (process.job, process.lease) == (job, lease));
        process.map(|process| process.spooled.clone())
    }

    /// Ends all processes without a record, as a loss of power does. How many ran.
    pub fn lose_power(&self) -> usize {
        let mut host = self.lock();
        let mut ended = 0;
        for process in host.all.values_mut() {
            if process.progress == Progress::Running {
                process.progress = Progress::Died { tree_gone: true, killed: process.mark() };
                ended += 1;
            }
            process.follower = None;
        }
        ended
    }

    fn lock(&self) -> MutexGuard<'_, Processes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Processes {
    fn start(&mut self, dir: &AttemptDir, launch: &Launch) -> Result<Execution, ExecutorError> {
        let failed = |what: &str| ExecutorError::Shim(what.to_owned());
        let chance = self.random.u32(..100);
        if chance < 2 {
            return Err(failed("nothing was started"));
        }
        let (job, lease) = names(dir.path()).ok_or_else(|| failed("a folder without a name"))?;
        let [millis, lines, code] = &launch.command[..] else { return Err(failed("no command")) };
        let number = |text: &str| text.parse::<u64>().map_err(|error| failed(&error.to_string()));
        let now = self.clock.boottime();
        let process = Process {
            job,
            lease,
            spool: dir.spool(),
            started: now,
            ends: now + Duration::from_millis(number(millis)?),
            lines: number(lines)?,
            code: code.parse().unwrap_or(1),
            hard_timeout: launch.hard_timeout,
            renewed: launch.lease_renewed,
            lease_limit: launch.lease_limit,
            stopping: None,
            written: 0,
            output: Vec::new(),
            spooled: Vec::new(),
            progress: Progress::Running,
            follower: None,
        };
        let mut known = self.facts.lock();
        known.note_start(self.host, job, lease);
        let before = self.all.get(dir.path());
        if before.is_some_and(|before| before.progress == Progress::Running) {
            let what = format!("{} starts job {job} for lease {lease} twice", self.host);
            known.breach(Rule::Exclusive, what);
        }
        drop(known);
        let process = self.all.entry(dir.path().to_owned()).insert_entry(process).into_mut();
        if chance < 4 {
            return Err(failed("it was started, and did not say so"));
        }
        Ok(process.follow())
    }
}

impl Executor for Machine {
    fn start<'a>(
        &'a self,
        dir: &'a AttemptDir,
        launch: &'a Launch,
    ) -> BoxFuture<'a, Result<Execution, ExecutorError>> {
        ready(self.lock().start(dir, launch)).boxed()
    }

    fn recover<'a>(
        &'a self,
        dir: &'a AttemptDir,
    ) -> BoxFuture<'a, Result<Recovered, ExecutorError>> {
        let mut host = self.lock();
        let found = host.all.get_mut(dir.path()).map(Process::follow);
        ready(Ok(found.map_or(Recovered::NotStarted, Recovered::Started))).boxed()
    }
}

impl Process {
    /// Stands in the record for how many were killed, so that a record tells which
    /// process it is of.
    fn mark(&self) -> u32 {
        u32::try_from(self.lease.0).unwrap_or(u32::MAX)
    }

    fn follow(&mut self) -> Execution {
        let (control, requests) = mpsc::channel(REQUESTS);
        let spool_length = watch::Sender::new(self.spool_length());
        let progress = watch::Sender::new(self.progress.clone());
        let execution = Execution {
            started_at: micros(self.started),
            spool_length: spool_length.subscribe(),
            progress: progress.subscribe(),
            control,
        };
        self.follower = Some(Follower { spool_length, progress, control: requests });
        execution
    }

    fn step(&mut self, now: Duration, bugs: &Bugs) -> io::Result<()> {
        if self.progress != Progress::Running {
            return Ok(());
        }
        // Before it does anything else, also when it has just been thawed.
        if let Some(limit) = self.lease_limit
            && now >= self.renewed.saturating_add(limit)
            && !bugs.has(Bug::NoLeaseTimer)
        {
            return self.end(now, ExitStatus::Signaled(9), Some(StopCause::LeaseLost));
        }
        self.hear(now, bugs);
        if let Some((by, cause)) = self.stopping
            && now >= by
        {
            return self.end(now, ExitStatus::Signaled(15), Some(cause));
        }
        if now.saturating_sub(self.started) >= self.hard_timeout {
            return self.end(now, ExitStatus::Signaled(9), Some(StopCause::HardTimeout));
        }
        self.write_lines(now)?;
        if now >= self.ends {
            return self.end(now, ExitStatus::Exited(self.code), None);
        }
        Ok(())
    }

    /// Takes what the runner asks.
    fn hear(&mut self, now: Duration, bugs: &Bugs) {
        while let Some(control) = self.follower.as_mut().and_then(|f| f.control.try_recv().ok()) {
            match control {
                Control::Stop { cause, grace } => {
                    let by = now + grace / 2;
                    let sooner = self.stopping.is_none_or(|(before, _)| by < before);
                    if sooner {
                        self.stopping = Some((by, cause));
                    }
                }
                Control::Renew { at, limit } => {
                    let at = if bugs.has(Bug::LeaseCountedTwice) { at + limit } else { at };
                    self.renewed = self.renewed.max(at);
                    self.lease_limit = self.lease_limit.map(|_| limit);
                }
            }
        }
    }

    fn write_lines(&mut self, now: Duration) -> io::Result<()> {
        let whole = self.ends.saturating_sub(self.started).as_millis().max(1);
        let passed = now.saturating_sub(self.started).as_millis().min(whole);
        let due = u64::try_from(u128::from(self.lines) * passed / whole).unwrap_or(0);
        let mut frames = Vec::new();
        while self.written < due {
            let line = format!("line {} of {}\n", self.written, self.lease);
            spool::push_frame(&mut frames, spool::Kind::Stdout, micros(now), line.as_bytes());
            self.output.extend_from_slice(line.as_bytes());
            self.written += 1;
        }
        self.append(&frames)
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        match OpenOptions::new().create(true).append(true).open(&self.spool) {
            Ok(mut spool) => spool.write_all(bytes)?,
            // The runner has given the attempt up; the process has it open and writes on.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.spooled.extend_from_slice(bytes);
        if let Some(follower) = &self.follower {
            follower.spool_length.send_replace(self.spool_length());
        }
        Ok(())
    }

    fn spool_length(&self) -> u64 {
        self.spooled.len() as u64
    }

    fn end(
        &mut self,
        now: Duration,
        status: ExitStatus,
        stopped: Option<StopCause>,
    ) -> io::Result<()> {
        let hash = |bytes: &[u8]| blake3::hash(bytes).to_hex().to_string();
        let end = LogEnd {
            stdout_length: self.output.len() as u64,
            stdout_blake3: hash(&self.output),
            stderr_blake3: hash(&[]),
            ..LogEnd::default()
        };
        let mut frame = Vec::new();
        spool::push_end(&mut frame, micros(now), &end);
        self.append(&frame)?;
        let killed = self.mark();
        let finished_at = micros(now);
        let exit = Exit {
            status,
            stopped,
            tree_gone: true,
            killed,
            out_of_memory: false,
            limits: BTreeMap::new(),
            finished_at,
        };
        self.progress = Progress::Done(exit);
        if let Some(follower) = &self.follower {
            follower.progress.send_replace(self.progress.clone());
        }
        Ok(())
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The job and the lease of an attempt's folder.
fn names(dir: &Path) -> Option<(JobId, Lease)> {
    let (job, lease) = dir.file_name()?.to_str()?.split_once('-')?;
    Some((job.parse().ok()?, Lease(lease.parse().ok()?)))
}
