//! What makes fewer states of many without leaving a behaviour out.

use crate::state::{Down, Phase, State, Stream, Up};

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
