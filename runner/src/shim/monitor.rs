//! The shim's side of a monitor, the process that stands for a job which runs elsewhere.

use std::{io, os::unix::net::UnixStream, time::Duration};

use nix::{poll::PollFd, sys::signal::Signal};

use super::lines::Lines;
use crate::monitor::protocol::{Ended, LONGEST_REPORT, Order, Report, Task};

/// A monitor that was started.
#[derive(Debug)]
pub(super) struct Monitor {
    lines: Lines,
    ended: Option<Ended>,
    brings: bool,
}

impl Monitor {
    pub(super) fn new(stream: UnixStream, task: Task) -> io::Result<Self> {
        let mut lines = Lines::new(stream, LONGEST_REPORT)?;
        lines.queue(&Order::Start(Box::new(task)));
        lines.flush();
        Ok(Self { lines, ended: None, brings: false })
    }

    /// How the job ended. None: it has not, or nobody saw it.
    pub(super) fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// The command has ended, and nothing of it is left to be limited in time.
    pub(super) fn brings(&self) -> bool {
        self.brings
    }

    /// What to wait for. None: nothing more comes.
    pub(super) fn poll_fd(&self) -> Option<PollFd<'_>> {
        (!self.lines.is_broken()).then(|| self.lines.poll_fd())
    }

    /// Takes what it reports; lines for the job's output go to `note`.
    pub(super) fn serve(&mut self, mut note: impl FnMut(&str)) {
        for report in self.lines.receive() {
            match report {
                Report::Note(text) => note(&text),
                Report::Bringing => self.brings = true,
                Report::Ended(ended) => self.ended = Some(ended),
            }
        }
        self.lines.flush();
    }

    /// Has the job signalled; SIGKILL is proven to have worked.
    pub(super) fn signal(&mut self, signal: Signal) {
        self.order(if signal == Signal::SIGKILL { &Order::Kill } else { &Order::Terminate });
    }

    /// Passes on until when the lease is good.
    pub(super) fn renew(&mut self, until: Duration) {
        self.order(&Order::Renew(until));
    }

    fn order(&mut self, order: &Order) {
        self.lines.queue(order);
        self.lines.flush();
    }
}
