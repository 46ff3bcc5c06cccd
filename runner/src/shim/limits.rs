//! When a job is stopped, and why: the soft and the hard limit, requests to
//! stop, and the lease.
//!
//! Pure: it is told the time and says what to do; it signals nobody.

use std::time::Duration;

use nix::sys::signal::Signal;

use crate::executor::{Launch, StopCause};

/// What has to be done now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Order {
    /// SIGTERM or SIGKILL, for the whole tree.
    pub(super) signal: Signal,
    /// Why, for the job's log.
    pub(super) note: String,
}

/// The limits of one job and what became of them. Times are those of
/// [`crate::clock::monotonic`], or [`crate::clock::boottime`] for the lease.
#[derive(Debug)]
pub(super) struct Limits {
    soft: Duration,
    hard: Duration,
    lease: Option<Duration>,
    soft_at: Option<Duration>,
    hard_at: Option<Duration>,
    kill_at: Option<(Duration, Duration)>,
    /// When the renewal was asked for that the lease rests on.
    renewed: Duration,
    /// Nothing is left to limit.
    lifted: bool,
    cause: Option<StopCause>,
}

impl Limits {
    /// The limits of a job that starts now.
    pub(super) fn new(launch: &Launch, monotonic: Duration) -> Self {
        Self {
            soft: launch.soft_timeout,
            hard: launch.hard_timeout,
            lease: launch.lease_limit,
            soft_at: monotonic.checked_add(launch.soft_timeout),
            hard_at: monotonic.checked_add(launch.hard_timeout),
            kill_at: None,
            renewed: launch.lease_renewed,
            lifted: false,
            cause: None,
        }
    }

    /// The first reason for which the job was stopped.
    pub(super) fn cause(&self) -> Option<StopCause> {
        self.cause
    }

    /// The monotonic time at which to ask [`Limits::due`] again.
    pub(super) fn wake_at(&self) -> Option<Duration> {
        [self.soft_at, self.hard_at, self.kill_at.map(|(at, _)| at)].into_iter().flatten().min()
    }

    /// The boot time at which to ask [`Limits::due`] again.
    pub(super) fn lease_until(&self) -> Option<Duration> {
        self.lease_end().filter(|_| !self.lifted)
    }

    /// At this boot time nobody waits for the job any more, also when its
    /// limits are lifted.
    pub(super) fn lease_is_over(&self, boottime: Duration) -> bool {
        self.lease_end().is_some_and(|at| boottime >= at)
    }

    fn lease_end(&self) -> Option<Duration> {
        self.lease.map(|limit| self.renewed.saturating_add(limit))
    }

    /// What the time demands. Nothing follows a SIGKILL.
    pub(super) fn due(&mut self, monotonic: Duration, boottime: Duration) -> Option<Order> {
        if self.lease_until().is_some_and(|at| boottime >= at) {
            let limit = human(self.lease.unwrap_or_default());
            let note = format!("lease lost: not renewed for {limit}; sent SIGKILL");
            return Some(self.kill(StopCause::LeaseLost, note));
        }
        if self.hard_at.is_some_and(|at| monotonic >= at) {
            let note = format!("hard timeout after {}: sent SIGKILL", human(self.hard));
            return Some(self.kill(StopCause::HardTimeout, note));
        }
        if let Some((_, grace)) = self.kill_at.filter(|(at, _)| monotonic >= *at) {
            let note = format!("still running {} after SIGTERM: sent SIGKILL", human(grace));
            return Some(self.kill(StopCause::Cancelled, note));
        }
        self.soft_at.take_if(|at| monotonic >= *at)?;
        self.cause.get_or_insert(StopCause::SoftTimeout);
        let note = format!("soft timeout after {}: sent SIGTERM", human(self.soft));
        Some(Order { signal: Signal::SIGTERM, note })
    }

    /// What a request to stop demands. Asked again, it can only shorten the grace.
    pub(super) fn stop(
        &mut self,
        cause: StopCause,
        grace: Duration,
        monotonic: Duration,
    ) -> Option<Order> {
        let what = match cause {
            StopCause::Cancelled => "cancelled",
            StopCause::LeaseLost => "lease lost",
            StopCause::SoftTimeout => "soft timeout",
            StopCause::HardTimeout => "hard timeout",
        };
        if grace.is_zero() {
            return Some(self.kill(cause, format!("{what}: sent SIGKILL")));
        }
        let kill_at = monotonic.checked_add(grace)?;
        if let Some((at, old)) = &mut self.kill_at {
            if kill_at < *at {
                (*at, *old) = (kill_at, grace);
            }
            return None;
        }
        self.kill_at = Some((kill_at, grace));
        self.cause.get_or_insert(cause);
        let note = format!("{what}: sent SIGTERM, SIGKILL follows after {}", human(grace));
        Some(Order { signal: Signal::SIGTERM, note })
    }

    /// Notes that the lease was renewed as of the boot time `at`, and is good
    /// for `limit` from then on. When that is heard does not matter, and an older
    /// renewal changes nothing.
    pub(super) fn renew(&mut self, at: Duration, limit: Duration) {
        if let Some(lease) = self.lease.as_mut().filter(|_| at >= self.renewed) {
            *lease = limit;
            self.renewed = at;
        }
    }

    /// The command has ended in time. What is still done about it can be stopped, and ends
    /// with the lease.
    pub(super) fn end_timeouts(&mut self) {
        self.soft_at = None;
        self.hard_at = None;
    }

    /// Lifts every limit: the main process has ended or everything is killed.
    pub(super) fn lift(&mut self) {
        self.soft_at = None;
        self.hard_at = None;
        self.kill_at = None;
        self.lifted = true;
    }

    fn kill(&mut self, cause: StopCause, note: String) -> Order {
        self.lift();
        if self.cause == Some(StopCause::SoftTimeout) && cause == StopCause::HardTimeout {
            // It took the hard one.
            self.cause = Some(cause);
        }
        self.cause.get_or_insert(cause);
        Order { signal: Signal::SIGKILL, note }
    }
}

/// A time span for people: `59m`, `1h30m`, `1m5s`, `250ms`.
pub(crate) fn human(span: Duration) -> String {
    let seconds = span.as_secs();
    let parts = [
        (seconds / 3600, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (u64::from(span.subsec_millis()), "ms"),
    ];
    let text: String = parts
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, unit)| format!("{count}{unit}"))
        .collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::executor::{Control, Names, Place, Resources};

    const fn s(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn limits(lease: Option<Duration>) -> Limits {
        let launch = Launch {
            workspace: None,
            command: vec!["true".into()],
            env: BTreeMap::new(),
            soft_timeout: s(60),
            hard_timeout: s(100),
            output_limit: 0,
            masks: Default::default(),
            lease_limit: lease,
            lease_renewed: s(5000),
            place: Place::Host,
            resources: Resources::default(),
            names: Names::default(),
            open_files: None,
            leaves: crate::Leaves::default(),
        };
        Limits::new(&launch, s(1000))
    }

    #[test]
    fn the_soft_limit_terminates_once_and_the_hard_limit_kills() {
        let mut limits = limits(None);
        assert_eq!(limits.due(s(1059), s(9999)), None);
        let soft = limits.due(s(1060), s(9999)).unwrap();
        assert_eq!(soft.signal, Signal::SIGTERM);
        assert_eq!(soft.note, "soft timeout after 1m: sent SIGTERM");
        assert_eq!(limits.due(s(1061), s(9999)), None);
        assert_eq!(limits.wake_at(), Some(s(1100)));
        assert_eq!(limits.due(s(1100), s(9999)).unwrap().signal, Signal::SIGKILL);
        assert_eq!(limits.cause(), Some(StopCause::HardTimeout));
        assert_eq!(limits.wake_at(), None);
    }

    #[test]
    fn a_second_request_to_stop_can_only_shorten_the_grace() {
        let mut limits = limits(None);
        let stop = limits.stop(StopCause::Cancelled, s(10), s(1000)).unwrap();
        assert_eq!(stop.note, "cancelled: sent SIGTERM, SIGKILL follows after 10s");
        assert_eq!(limits.stop(StopCause::LeaseLost, s(30), s(1001)), None);
        assert_eq!(limits.wake_at(), Some(s(1010)));
        assert_eq!(limits.stop(StopCause::LeaseLost, s(5), s(1002)), None);
        assert_eq!(limits.due(s(1007), s(0)).unwrap().signal, Signal::SIGKILL);
        assert_eq!(limits.cause(), Some(StopCause::Cancelled));
    }

    #[test]
    fn a_stop_without_grace_kills_at_once() {
        let order = limits(None).stop(StopCause::LeaseLost, Duration::ZERO, s(1000)).unwrap();
        assert_eq!(order.signal, Signal::SIGKILL);
    }

    #[test]
    fn a_lease_counts_from_when_its_renewal_was_asked_for() {
        let mut limits = limits(Some(s(45)));
        assert_eq!(limits.due(s(1000), s(5044)), None);
        limits.renew(s(5034), s(45));
        assert_eq!(limits.lease_until(), Some(s(5079)));
        limits.renew(s(5004), s(5));
        assert_eq!(limits.lease_until(), Some(s(5079)), "an old renewal shortened the lease");
        let lost = limits.due(s(1000), s(5079)).unwrap();
        assert_eq!(lost.signal, Signal::SIGKILL);
        assert_eq!(lost.note, "lease lost: not renewed for 45s; sent SIGKILL");
        assert_eq!(limits.cause(), Some(StopCause::LeaseLost));
    }

    #[test]
    fn a_renewal_brings_the_limit_that_counts_from_then_on() {
        let mut limits = limits(Some(s(45)));
        limits.renew(s(5010), s(20));
        assert_eq!(limits.lease_until(), Some(s(5030)));
        limits.renew(s(5010), s(5));
        assert_eq!(limits.lease_until(), Some(s(5015)));
        let lost = limits.due(s(1000), s(5015)).unwrap();
        assert_eq!(lost.note, "lease lost: not renewed for 5s; sent SIGKILL");
    }

    #[test]
    fn a_job_that_waits_for_its_runner_is_given_no_limit_by_a_renewal() {
        let mut limits = limits(None);
        limits.renew(s(5010), s(20));
        assert_eq!(limits.lease_until(), None);
    }

    #[test]
    fn a_renewal_that_is_handled_late_does_not_move_the_end_of_the_lease() {
        let ends = |handled_at: Duration| {
            let mut limits = limits(Some(s(45)));
            let renewal = Control::Renew { at: s(5010), limit: s(45) };
            let line = serde_json::to_vec(&renewal).unwrap();
            assert_eq!(limits.due(s(1000), handled_at), None);
            match serde_json::from_slice(&line).unwrap() {
                Control::Renew { at, limit } => limits.renew(at, limit),
                stop @ Control::Stop { .. } => panic!("another request arrived: {stop:?}"),
            }
            assert!(limits.due(s(1000), s(5055)).is_some(), "handled at {handled_at:?}");
            limits.cause()
        };
        assert_eq!(ends(s(5010)), Some(StopCause::LeaseLost));
        assert_eq!(ends(s(5044)), Some(StopCause::LeaseLost));
    }

    #[test]
    fn the_lease_of_a_job_that_has_ended_still_counts_but_kills_nothing() {
        let mut limits = limits(Some(s(45)));
        limits.lift();
        assert_eq!((limits.lease_until(), limits.due(s(1000), s(9999))), (None, None));
        assert!(!limits.lease_is_over(s(5044)));
        limits.renew(s(5034), s(45));
        assert!(!limits.lease_is_over(s(5078)));
        assert!(limits.lease_is_over(s(5079)));
    }

    #[test]
    fn unlimited_times_do_not_overflow() {
        let launch = Launch {
            workspace: None,
            command: vec![],
            env: BTreeMap::new(),
            soft_timeout: Duration::MAX,
            hard_timeout: Duration::MAX,
            output_limit: 0,
            masks: Default::default(),
            lease_limit: Some(Duration::MAX),
            lease_renewed: s(1),
            place: Place::Host,
            resources: Resources::default(),
            names: Names::default(),
            open_files: None,
            leaves: crate::Leaves::default(),
        };
        let mut limits = Limits::new(&launch, s(1));
        assert_eq!(limits.wake_at(), None);
        assert_eq!(limits.due(s(1 << 40), s(1 << 40)), None);
    }

    #[test]
    fn spans_read_as_people_write_them() {
        assert_eq!(human(s(59 * 60)), "59m");
        assert_eq!(human(s(5405)), "1h30m5s");
        assert_eq!(human(Duration::from_millis(250)), "250ms");
        assert_eq!(human(Duration::ZERO), "0s");
    }
}
