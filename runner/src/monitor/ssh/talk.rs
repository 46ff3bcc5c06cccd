//! A conversation with the target, in which the two clocks are compared.

use std::time::Duration;

use crate::{
    clock,
    executor::ssh::{
        connection::Broken,
        control::{Control, Report},
    },
};

/// A conversation with the target, and what it was told of the lease.
pub(super) struct Talk {
    pub(super) control: Control,
    clock: Clock,
    renewed: u64,
}

impl Talk {
    /// Its clock showed `there` before the answer came.
    pub(super) fn new(control: Control, there: Duration) -> Self {
        Self { control, clock: Clock { there, here: clock::boottime() }, renewed: 0 }
    }

    /// Has the job started, with a lease that is good until then.
    pub(super) async fn start(&mut self, until: Option<Duration>) -> Result<(), Broken> {
        self.renewed = self.clock.due(until);
        self.control.order(&format!("start {}", self.renewed)).await
    }

    /// Tells until when the lease is good, if that is news.
    pub(super) async fn renew(&mut self, until: Option<Duration>) -> Result<(), Broken> {
        let due = self.clock.due(until);
        if due > self.renewed {
            self.renewed = due;
            self.control.order(&format!("lease {due}")).await?;
        }
        Ok(())
    }

    /// Has the folder removed.
    pub(super) async fn clean(mut self) -> Result<(), Broken> {
        self.control.order("clean").await?;
        loop {
            match self.control.report().await? {
                Report::Clean => break,
                Report::Fail(problem) => return Err(Broken(problem)),
                _ => {}
            }
        }
        self.control.close().await;
        Ok(())
    }
}

/// The target's clock beside this host's.
#[derive(Clone, Copy, Debug)]
struct Clock {
    /// What it showed, at the latest
    there: Duration,
    /// at this time since this host's boot.
    here: Duration,
}

impl Clock {
    /// What the target's clock shows, in hundredths of seconds, when `until` comes here, or earlier: it had gone on
    /// when its answer came. 0 is never.
    fn due(&self, until: Option<Duration>) -> u64 {
        let Some(until) = until else { return 0 };
        let due = match until.checked_sub(self.here) {
            Some(left) => self.there.saturating_add(left),
            None => self.there.saturating_sub(self.here.saturating_sub(until)),
        };
        // More than a shell can count with is never.
        i64::try_from(due.as_millis() / 10).map_or(0, |due| due.unsigned_abs().max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_on_the_targets_clock_when_it_ends_here() {
        let s = Duration::from_secs;
        let clock = Clock { there: s(1000), here: s(50) };
        assert_eq!(clock.due(Some(s(95))), 104_500);
        assert_eq!(clock.due(Some(s(40))), 99_000);
        assert_eq!(Clock { there: s(3), here: s(50) }.due(Some(Duration::ZERO)), 1);
        assert_eq!((clock.due(None), clock.due(Some(Duration::MAX))), (0, 0));
    }
}
