//! How long to wait before the session is opened again. Who hears that there is no
//! leader, or another one, asks again soon: there will be one in a moment. Where
//! nobody answers, or a runner is refused, the waits grow, so that a whole fleet of
//! runners does not hold up whoever tries to come back.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use baton_client::ClientError;
use baton_proto::error::Reason;

use super::Ended;

const FIRST: Duration = Duration::from_millis(50);
/// What the waits grow to while coordinators answer; the jitter can double it.
const LONGEST_BETWEEN_LEADERS: Duration = Duration::from_millis(250);
/// What they grow to otherwise.
const LONGEST: Duration = Duration::from_secs(5);

/// The waits since the last session that lasted.
pub(super) struct Delays {
    between_leaders: ExponentialBackoff,
    otherwise: ExponentialBackoff,
}

impl Delays {
    pub(super) fn new() -> Self {
        Self {
            between_leaders: growing_to(LONGEST_BETWEEN_LEADERS),
            otherwise: growing_to(LONGEST),
        }
    }

    pub(super) fn after(&mut self, ended: &Ended) -> Duration {
        if is_between_leaders(ended) {
            // Somebody is there again.
            self.otherwise = growing_to(LONGEST);
            self.between_leaders.next().unwrap_or(LONGEST_BETWEEN_LEADERS)
        } else {
            self.otherwise.next().unwrap_or(LONGEST)
        }
    }
}

fn is_between_leaders(ended: &Ended) -> bool {
    match ended {
        Ended::Redirected(_) => true,
        Ended::Broken(ClientError::Refused(error)) => {
            matches!(error.reason, Reason::NoLeader | Reason::ShuttingDown)
        }
        Ended::Broken(_) | Ended::Refused(_) | Ended::Over => false,
    }
}

fn growing_to(longest: Duration) -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST)
        .with_max_delay(longest)
        .without_max_times()
        .with_jitter()
        .build()
}

#[cfg(test)]
mod tests {
    use baton_proto::error::ApiError;

    use super::*;

    fn refused(reason: Reason) -> Ended {
        Ended::Broken(ApiError::new(reason, "", "").into())
    }

    fn unreachable() -> Ended {
        Ended::Broken(ClientError::Unreachable(String::new()))
    }

    #[test]
    fn a_new_leader_is_asked_for_again_and_again() {
        let mut delays = Delays::new();
        for round in 0..100 {
            for ended in [
                Ended::Redirected("h:1".to_owned()),
                refused(Reason::NoLeader),
                refused(Reason::ShuttingDown),
            ] {
                let delay = delays.after(&ended);
                assert!(delay >= FIRST, "round {round}: {delay:?}");
                assert!(delay <= LONGEST_BETWEEN_LEADERS * 2, "round {round}: {delay:?}");
            }
        }
    }

    #[test]
    fn where_nobody_answers_the_waits_grow_until_somebody_does() {
        for ended in [unreachable(), refused(Reason::RunnerIdNotYetFree)] {
            let mut delays = Delays::new();
            assert!(delays.after(&ended) <= FIRST * 2);
            let longest = (0..20).map(|_| delays.after(&ended)).max();
            assert!(longest >= Some(LONGEST), "{longest:?}");
            delays.after(&refused(Reason::NoLeader));
            assert!(delays.after(&ended) <= FIRST * 2);
        }
    }
}
