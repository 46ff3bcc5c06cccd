//! The times that leases live by, and which of them go together.

use std::time::Duration;

/// The times that leases live by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How often runners report.
    pub heartbeat_interval: Duration,
    /// A lease not renewed for this long is given away.
    pub lease_ttl: Duration,
    /// A runner without a session for this long counts as unreachable.
    pub unreachable_after: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_secs(5),
            lease_ttl: Duration::from_secs(60),
            unreachable_after: Duration::from_secs(15),
        }
    }
}

/// Times that do not go together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TimingError {
    /// Heartbeats would be a flood, or never come.
    #[error("a heartbeat interval of {0:?} does not do; it must be from 100ms to 1h")]
    Interval(Duration),
    /// Leases would end before a runner can renew them.
    #[error(
        "a heartbeat interval of {heartbeat_interval:?} and a lease time to live of {lease_ttl:?} \
         do not go together; the time to live must be at least three intervals"
    )]
    Lease {
        /// How often runners report.
        heartbeat_interval: Duration,
        /// How long a lease lasts without.
        lease_ttl: Duration,
    },
    /// Sessions would end between two heartbeats.
    #[error(
        "a heartbeat interval of {heartbeat_interval:?} and unreachable-after of \
         {unreachable_after:?} do not go together; it must be at least two intervals"
    )]
    Unreachable {
        /// How often runners report.
        heartbeat_interval: Duration,
        /// How long a runner may be silent.
        unreachable_after: Duration,
    },
}

impl Timing {
    /// Checks that runners can keep to these times.
    ///
    /// # Errors
    /// [`TimingError`], with what would do.
    pub fn check(&self) -> Result<(), TimingError> {
        let Self { heartbeat_interval, lease_ttl, unreachable_after } = *self;
        if !(Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&heartbeat_interval) {
            return Err(TimingError::Interval(heartbeat_interval));
        }
        if lease_ttl < heartbeat_interval * 3 {
            return Err(TimingError::Lease { heartbeat_interval, lease_ttl });
        }
        if unreachable_after < heartbeat_interval * 2 {
            return Err(TimingError::Unreachable { heartbeat_interval, unreachable_after });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(heartbeat: u64, ttl: u64, unreachable: u64) -> Result<(), TimingError> {
        let timing = Timing {
            heartbeat_interval: Duration::from_millis(heartbeat),
            lease_ttl: Duration::from_millis(ttl),
            unreachable_after: Duration::from_millis(unreachable),
        };
        timing.check()
    }

    #[test]
    fn the_defaults_and_the_least_of_each_go_together() {
        assert_eq!(Timing::default().check(), Ok(()));
        assert_eq!(check(100, 300, 200), Ok(()));
        assert_eq!(check(3_600_000, u64::MAX, u64::MAX), Ok(()));
    }

    #[test]
    fn heartbeats_are_neither_a_flood_nor_for_ever_apart() {
        for interval in [0, 99, 3_600_001, u64::MAX] {
            let refused = check(interval, u64::MAX, u64::MAX);
            assert!(matches!(refused, Err(TimingError::Interval(_))), "{interval}: {refused:?}");
        }
    }

    #[test]
    fn a_lease_outlives_a_lost_heartbeat() {
        let refused = check(1_000, 2_999, 2_000);
        assert!(matches!(refused, Err(TimingError::Lease { .. })), "{refused:?}");
    }

    #[test]
    fn a_runner_is_not_given_up_between_two_heartbeats() {
        let refused = check(1_000, 3_000, 1_999);
        assert!(matches!(refused, Err(TimingError::Unreachable { .. })), "{refused:?}");
        assert!(refused.unwrap_err().to_string().contains("two intervals"));
    }
}
