//! What makes fewer states of many without leaving a behaviour out.

use crate::state::{Down, Job, Phase, RunnerIndex, State, Stream, Up};

impl State {
    /// Every job has ended, and no runner has anything of one, or will be told or tells
    /// anything of one: what follows is heartbeats of idle runners.
    pub(crate) fn nothing_is_left(&self) -> bool {
        let is_quiet = |stream: &Stream| {
            !stream.up.iter().any(|up| matches!(up, Up::Started(..) | Up::Finished(..)))
                && !stream.down.iter().any(|down| matches!(down, Down::Assign { .. }))
        };
        self.jobs.iter().all(|job| job.phase == Phase::Ended)
            && self.runners.iter().all(|runner| {
                runner.attempts.is_empty()
                    && [&runner.newest, &runner.former].into_iter().flatten().all(is_quiet)
            })
    }

    /// No job will be granted any more.
    fn is_all_granted(&self, attempts: u8) -> bool {
        self.jobs.iter().all(|job| job.phase == Phase::Ended || job.attempts == attempts)
            && self.jobs.iter().all(|job| job.phase != Phase::Queued)
    }

    /// A heartbeat of this runner could change nothing: it holds nothing, should hold
    /// nothing, and will be given nothing.
    pub(crate) fn is_bystander(&self, runner: RunnerIndex, attempts: u8) -> bool {
        self.is_all_granted(attempts)
            && self.runners[runner].attempts.is_empty()
            && !self.jobs.iter().filter_map(Job::holder).any(|holder| holder.runner == runner)
    }

    /// How old the newest heartbeat of a session is dates only what is granted later.
    pub(crate) fn forget_what_dates_nothing(&mut self, attempts: u8) {
        if self.is_all_granted(attempts) {
            for session in self.leader.sessions.iter_mut().flatten() {
                session.beat = 0;
            }
        }
    }

    /// Runners are alike: of two states that differ only in which is which, one.
    pub(crate) fn representative(self) -> Self {
        if self.runners.len() != 2 {
            return self;
        }
        let mut twin = self.clone();
        twin.runners.swap(0, 1);
        twin.leader.sessions.swap(0, 1);
        for job in &mut twin.jobs {
            if let Phase::Leased(holder) | Phase::Running(holder) = &mut job.phase {
                holder.runner = 1 - holder.runner;
            }
        }
        self.min(twin)
    }
}
