//! Whether this node's time of day may say how old something is. A clock that was set wrong
//! for a minute must not make everything old. Never says what time it is.

use std::time::Duration;

use baton_state::Timestamp;
use tokio::time::Instant;
use tracing::warn;

/// How much further than the time that has passed a clock may go between two looks.
const AHEAD: Duration = Duration::from_secs(60);

/// How long a clock that has jumped ahead must have gone on from there. Nothing is lost by
/// keeping what is old for one more day.
const BELIEVED_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Looks at the time of day beside the time that passes.
#[derive(Default)]
pub(crate) struct Steady {
    last: Option<(Timestamp, Instant)>,
    jumped: Option<Instant>,
}

impl Steady {
    /// Whether the time of day `now`, at the moment `at`, is one to go by: it has not
    /// jumped ahead lately. The first one is.
    pub(crate) fn look(&mut self, now: Timestamp, at: Instant) -> bool {
        if let Some((last, before)) = self.last.replace((now, at)) {
            let passed = at.duration_since(before) + AHEAD;
            let shown = Duration::from_millis(now.0.saturating_sub(last.0));
            if shown > passed {
                warn!(
                    ahead = ?shown.saturating_sub(passed),
                    "the time of day has jumped ahead: nothing is removed for its age in the next \
                     24 hours"
                );
                self.jumped = Some(at);
            }
        }
        self.jumped.is_none_or(|jumped| at.duration_since(jumped) >= BELIEVED_AFTER)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: u64 = 60_000;
    const DAY: u64 = 24 * 60 * MINUTE;

    /// What is said at each look: so many milliseconds after the start, so many ahead.
    fn looks(looks: &[(u64, u64)]) -> Vec<bool> {
        let (mut steady, start) = (Steady::default(), Instant::now());
        let look = |(passed, ahead): &(u64, u64)| {
            steady.look(Timestamp(DAY + passed + ahead), start + Duration::from_millis(*passed))
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn a_clock_that_goes_on_is_believed() {
        let steady = [(0, 0), (MINUTE, 100), (2 * MINUTE, 0), (3 * MINUTE, 59_000), (DAY, 60_000)];
        assert_eq!(looks(&steady), [true; 5]);
    }

    #[test]
    fn a_clock_that_jumps_ahead_is_believed_when_it_has_gone_on_for_a_day() {
        let ten_days = 10 * DAY;
        let jumped = [
            (0, 0),
            (MINUTE, ten_days),
            (2 * MINUTE, ten_days),
            (DAY, ten_days),
            (DAY + MINUTE, ten_days),
        ];
        assert_eq!(looks(&jumped), [true, false, false, false, true]);
    }

    #[test]
    fn a_clock_that_was_put_right_again_is_watched_for_a_day() {
        let back = [(0, 0), (MINUTE, 10 * DAY), (2 * MINUTE, 0), (DAY, 0), (DAY + MINUTE, 0)];
        assert_eq!(looks(&back), [true, false, false, false, true]);
    }
}
