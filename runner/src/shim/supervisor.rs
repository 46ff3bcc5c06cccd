//! The shim's one loop: moves output, enforces limits, answers runners, and
//! when the main process has ended removes what it left behind.

use std::{io, os::fd::AsFd as _, path::Path, time::Duration};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        stat::Mode,
        time::TimeSpec,
        timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags},
    },
};

use super::{
    cgroup::{self, By, Group},
    command,
    control::{Connection, Listener, Report},
    ending::{Ending, RETRY_INTERVAL},
    folder::Folder,
    limits::{Limits, Order},
    monitor::Monitor,
    output::Output,
    process::{self, Process, Sweep},
    record::{self, State},
    rlimits::{self, Held},
};
use crate::{
    clock,
    executor::{AttemptDir, Control, Exit, ExitStatus, Launch, Place},
};

/// The spool's length is told at most this often.
const TELL_INTERVAL: Duration = Duration::from_millis(5);
/// Time between two rounds of killing: the first, and what it grows to.
const SWEEP_INTERVAL: (Duration, Duration) = (Duration::from_millis(5), Duration::from_millis(500));
/// How long a slow runner can hold up the end of the shim, in milliseconds.
const FAREWELL: u16 = 500;

/// The job's main process.
#[derive(Debug, Default)]
struct Main {
    /// Its number, until it is reaped: then the kernel may give it to another.
    pid: Option<i32>,
    /// What became of it.
    status: Option<ExitStatus>,
}

impl Main {
    /// Whether the child that was just reaped was this one.
    fn is_ended_by(&mut self, pid: i32, status: i32) -> bool {
        let ended = self.pid.take_if(|main| *main == pid).is_some();
        if ended {
            self.status = Some(if libc::WIFSIGNALED(status) {
                ExitStatus::Signaled(libc::WTERMSIG(status))
            } else {
                ExitStatus::Exited(libc::WEXITSTATUS(status))
            });
        }
        ended
    }
}

/// A job's process and everything about it.
#[derive(Debug)]
pub(super) struct Supervisor {
    folder: Folder,
    started_at: u64,
    output: Output,
    limits: Limits,
    children: SignalFd,
    lease_timer: TimerFd,
    listener: Listener,
    runners: Vec<Connection>,
    told_at: Duration,
    retry_at: Option<Duration>,
    ending: Ending,
    main: Main,
    /// The main process stands for a job that runs elsewhere.
    monitor: Option<Monitor>,
    group: Group,
    /// What holds each limit that was asked for.
    held: Held,
    tree_gone: bool,
    sweep: Sweep,
    sweep_next: Option<(Duration, Duration)>,
    finished_at: Option<u64>,
    /// Held until the process ends, by which it is released.
    _lock: std::fs::File,
}

impl Supervisor {
    /// Starts what the folder's launch file says. A command that cannot be
    /// started is no error, but an exit like any other.
    pub(super) fn start(dir: &Path, mask: Mode, disk_patience: Duration) -> Result<Self, String> {
        let dir = dir.canonicalize().map_err(because("find the attempt's folder"))?;
        let lock = record::lock(&dir)
            .map_err(because("lock the attempt"))?
            .ok_or("another shim holds the attempt")?;
        if record::read::<State>(&dir, record::STATE).map_err(because("read the state"))?.is_some()
        {
            return Err("the attempt was started before".to_owned());
        }
        let launch: Launch = record::read(&dir, record::LAUNCH)
            .map_err(because("read what to launch"))?
            .ok_or("the launch was withdrawn")?;
        let limits = Limits::new(&launch, clock::monotonic());
        if limits.lease_is_over(clock::boottime()) {
            return Err("the lease was over before the job could start".to_owned());
        }
        let folder = Folder::open(&dir).map_err(because("keep room on the disk"))?;
        let spool = AttemptDir::new(&dir).spool();
        let output = Output::open(&spool, &launch).map_err(because("open the spool"))?;
        let listener = Listener::bind(&dir).map_err(because("listen"))?;
        let flags = SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK;
        let children = SignalFd::with_flags(&SigSet::from(Signal::SIGCHLD), flags)
            .map_err(because("watch for signals"))?;
        let flags = TimerFlags::TFD_CLOEXEC | TimerFlags::TFD_NONBLOCK;
        let lease_timer =
            TimerFd::new(ClockId::CLOCK_BOOTTIME, flags).map_err(because("make a timer"))?;
        let (group, held) = limit(&launch, &dir);
        let started_at = clock::wall();
        let state = State::begun(started_at).map_err(because("read the boot's id"))?;
        let state = state.in_group(group.folders());
        record::write(&dir, record::STATE, &state, true).map_err(because("record the start"))?;

        let mut supervisor = Self {
            folder,
            started_at,
            output,
            limits,
            children,
            lease_timer,
            listener,
            runners: Vec::new(),
            told_at: Duration::ZERO,
            retry_at: None,
            ending: Ending::new(disk_patience),
            main: Main::default(),
            monitor: None,
            group,
            held,
            tree_gone: false,
            sweep: Sweep::default(),
            sweep_next: None,
            finished_at: None,
            _lock: lock,
        };
        supervisor.start_command(&launch, &dir, mask, state);
        Ok(supervisor)
    }

    fn start_command(&mut self, launch: &Launch, dir: &Path, mask: Mode, state: State) {
        let started = match launch.place {
            Place::Host => command::start(launch, dir, mask, &self.group),
            Place::Container(_) | Place::Remote(_) => command::start_monitor(launch, dir, mask)
                .map(|(running, monitor)| {
                    self.monitor = Some(monitor);
                    running
                }),
        };
        match started {
            Ok(running) => {
                self.main.pid = Some(running.pid);
                // Recovery can do without: it also looks for the cookie.
                let _ = self.folder.record(record::STATE, &state.with_main(running.pid), false);
                if let Err(error) = self.output.attach(running.stdout, running.stderr) {
                    self.output.note(&format!("cannot read the output: {error}"));
                }
                self.arm_lease_timer();
            }
            Err(refused) => {
                self.output.note(&refused.message);
                self.main.status = Some(refused.into_status());
                self.limits.lift();
                self.tree_gone = true;
            }
        }
        // It is of no more use and may hold secrets.
        let _ = std::fs::remove_file(self.folder.path().join(record::LAUNCH));
    }

    /// Runs until all is over and recorded, or nobody can say any more how it ended.
    pub(super) fn run(mut self, runner: Option<Connection>) {
        if let Some(runner) = runner {
            self.welcome(runner);
        }
        self.reap();
        loop {
            self.enforce();
            self.output_step();
            if self.has_lost_sight() {
                return;
            }
            if let Some(exit) = self.finish() {
                self.tell_length(true);
                for runner in &mut self.runners {
                    runner.queue(&Report::Exit(exit.clone()));
                    runner.flush_within(FAREWELL);
                }
                return;
            }
            self.tell_length(false);
            let child_changed = self.wait();
            if child_changed {
                self.reap();
            }
            self.serve();
        }
    }

    /// Collects ended children. The shim is the subreaper of the tree, so when
    /// it has no child left, the tree has no process left.
    fn reap(&mut self) {
        while !self.tree_gone {
            let mut status = 0;
            // SAFETY: `status` is a valid place for an integer.
            let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
            if pid == 0 {
                return;
            }
            if self.main.is_ended_by(pid, status) {
                self.limits.lift();
                self.start_sweep();
            }
            if pid < 0 {
                self.tree_gone = io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD);
                if self.tree_gone {
                    self.output.stop_waiting();
                }
                return;
            }
        }
    }

    fn start_sweep(&mut self) {
        self.sweep_next.get_or_insert((Duration::ZERO, SWEEP_INTERVAL.0));
    }

    /// Carries out what the limits demand, and goes on killing once begun.
    fn enforce(&mut self) {
        if let Some(order) = self.limits.due(clock::monotonic(), clock::boottime()) {
            self.obey(&order);
        }
        let Some((at, pause)) = self.sweep_next else { return };
        if !self.tree_gone && clock::monotonic() >= at {
            cgroup::kill(self.group.folders());
            let mut sweep = std::mem::take(&mut self.sweep);
            sweep.round(|each| {
                // Otherwise the dead pile up and slow the next scan down.
                self.reap();
                scan_tree(each);
            });
            self.sweep = sweep;
            let again = clock::monotonic() + pause;
            self.sweep_next = Some((again, (pause * 2).min(SWEEP_INTERVAL.1)));
            self.reap();
        }
    }

    fn obey(&mut self, order: &Order) {
        if let Some(monitor) = &mut self.monitor {
            monitor.signal(order.signal);
        } else if order.signal == Signal::SIGKILL {
            self.start_sweep();
        } else {
            scan_tree(|process| {
                process.signal(order.signal);
                // A stopped process would not notice.
                process.signal(Signal::SIGCONT);
            });
        }
        self.output.note(&order.note);
    }

    fn output_step(&mut self) {
        if self.output.is_blocked() {
            let now = clock::monotonic();
            if self.retry_at.is_none_or(|at| now >= at) {
                self.output.flush();
                self.retry_at = self.output.is_blocked().then_some(now + RETRY_INTERVAL);
            }
        } else {
            self.retry_at = None;
        }
        self.output.pump();
    }

    /// The monitor died. What it stood for may run on: a runner has to see to that, as
    /// it does when the shim dies.
    fn has_lost_sight(&mut self) -> bool {
        if !self.tree_gone || self.monitor.is_none() {
            return false;
        }
        self.serve_monitor();
        self.monitor.as_ref().is_some_and(|monitor| monitor.ended().is_none())
    }

    /// Ends the output and records the exit when there is nothing left to wait
    /// for. None: not yet.
    fn finish(&mut self) -> Option<Exit> {
        if !self.tree_gone {
            return None;
        }
        let now = clock::monotonic();
        let lease_is_over = self.limits.lease_is_over(clock::boottime());
        if !self.ending.complete(&mut self.output, &mut self.folder, lease_is_over, now) {
            self.retry_at.get_or_insert(now + RETRY_INTERVAL);
            return None;
        }
        let finished_at = *self.finished_at.get_or_insert_with(clock::wall);
        let stopped = self.limits.cause();
        let exit = match self.monitor.as_ref().and_then(Monitor::ended) {
            Some(ended) => Exit {
                status: ended.status.clone(),
                stopped,
                tree_gone: true,
                killed: ended.killed,
                out_of_memory: ended.out_of_memory,
                limits: self.held.clone(),
                finished_at,
            },
            None => Exit {
                // Without a main process the status says so from the start.
                status: self.main.status.clone().unwrap_or(ExitStatus::Exited(0)),
                stopped,
                tree_gone: true,
                killed: self.sweep.killed(),
                out_of_memory: self.group.ran_out_of_memory(),
                limits: self.held.clone(),
                finished_at,
            },
        };
        let can_tell = !self.runners.is_empty();
        let over = self.ending.record(&exit, &self.output, &mut self.folder, can_tell, now);
        if over {
            self.group.remove();
        }
        over.then_some(exit)
    }

    fn tell_length(&mut self, now: bool) {
        let time = clock::monotonic();
        if now || time >= self.told_at + TELL_INTERVAL {
            let length = self.output.told();
            for runner in &mut self.runners {
                if runner.is_behind(length) {
                    self.told_at = time;
                    runner.tell_length(length);
                }
            }
        }
    }

    /// Sleeps until something happens. True when a child changed.
    fn wait(&self) -> bool {
        let mut fds = vec![
            PollFd::new(self.children.as_fd(), PollFlags::POLLIN),
            PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
        ];
        if self.limits.lease_until().is_some() {
            fds.push(PollFd::new(self.lease_timer.as_fd(), PollFlags::POLLIN));
        }
        fds.extend(self.output.pipes().map(|pipe| PollFd::new(pipe, PollFlags::POLLIN)));
        fds.extend(self.runners.iter().map(Connection::poll_fd));
        fds.extend(self.monitor.as_ref().and_then(Monitor::poll_fd));
        // An interrupted wait is one that ended early.
        let _ = poll(&mut fds, self.patience());
        let mut changed = false;
        while let Ok(Some(_)) = self.children.read_signal() {
            changed = true;
        }
        changed
    }

    fn patience(&self) -> PollTimeout {
        let length = self.output.told();
        let behind = self.runners.iter().any(|runner| runner.is_behind(length));
        let wake_at = [
            self.limits.wake_at(),
            self.retry_at,
            self.ending.retry_at(),
            self.sweep_next.map(|(at, _)| at).filter(|_| !self.tree_gone),
            behind.then_some(self.told_at + TELL_INTERVAL),
        ];
        let Some(at) = wake_at.into_iter().flatten().min() else { return PollTimeout::NONE };
        let left = at.saturating_sub(clock::monotonic()).as_micros().div_ceil(1000);
        PollTimeout::try_from(left.min(60_000)).unwrap_or(PollTimeout::ZERO)
    }

    fn serve(&mut self) {
        for runner in self.listener.accept() {
            self.welcome(runner);
        }
        let requests: Vec<Control> =
            self.runners.iter_mut().flat_map(Connection::receive).collect();
        for request in requests {
            self.handle(request);
        }
        for runner in &mut self.runners {
            runner.flush();
        }
        self.runners.retain(|runner| !runner.is_broken());
        self.serve_monitor();
    }

    fn serve_monitor(&mut self) {
        if let Some(monitor) = &mut self.monitor {
            monitor.serve(|note| self.output.note(note));
            if monitor.brings() {
                self.limits.end_timeouts();
            }
        }
    }

    fn welcome(&mut self, mut runner: Connection) {
        runner.queue(&Report::Started(self.started_at));
        runner.flush();
        self.runners.push(runner);
    }

    fn handle(&mut self, request: Control) {
        match request {
            // Everything is being killed already.
            Control::Stop { .. } if self.sweep_next.is_some() || self.tree_gone => {}
            Control::Stop { cause, grace } => {
                if let Some(order) = self.limits.stop(cause, grace, clock::monotonic()) {
                    self.obey(&order);
                }
            }
            Control::Renew { at, limit } => {
                self.limits.renew(at, limit);
                self.arm_lease_timer();
                if let (Some(monitor), Some(until)) = (&mut self.monitor, self.limits.lease_until())
                {
                    monitor.renew(until);
                }
            }
        }
    }

    /// Has the lease's end wake the loop, even right after the host slept.
    fn arm_lease_timer(&self) {
        let Some(until) = self.limits.lease_until() else {
            let _ = self.lease_timer.unset();
            return;
        };
        let expiration = Expiration::OneShot(TimeSpec::from_duration(until));
        let _ = self.lease_timer.set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME);
    }
}

/// Limits what the processes of a job on this host may use together, and says by what.
fn limit(launch: &Launch, dir: &Path) -> (Group, Held) {
    match launch.place {
        Place::Host => {
            let name = cgroup::name(dir);
            let group = Group::make(&cgroup::Host::look(), &name, &launch.resources);
            let held = rlimits::held_here(&launch.resources, &group);
            (group, held)
        }
        Place::Container(_) => (Group::default(), rlimits::held(&launch.resources, |_| By::Docker)),
        Place::Remote(_) => (Group::default(), rlimits::held_by_a_shell(&launch.resources)),
    }
}

/// Finds the job's processes: all that are below the shim.
fn scan_tree(each: impl FnMut(&Process)) {
    let this = std::process::id().cast_signed();
    // Without /proc there is nothing to find, and the next round tries again.
    let _ = process::scan(|one| one.parent == this, each);
}

fn because<E: std::fmt::Display>(action: &'static str) -> impl FnOnce(E) -> String {
    move |error| format!("cannot {action}: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_got_the_number_of_the_main_process_does_not_change_how_that_ended() {
        let mut main = Main { pid: Some(7), status: None };
        assert!(!main.is_ended_by(8, 1 << 8));
        assert_eq!(main.status, None);
        assert!(main.is_ended_by(7, 3 << 8));
        assert!(!main.is_ended_by(7, libc::SIGKILL));
        assert_eq!(main.status, Some(ExitStatus::Exited(3)));
    }
}
