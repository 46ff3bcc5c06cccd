//! The waits between tries at another member.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// The shortest wait and the longest; up to as much again is added at random.
const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_millis(500);

/// Waits that grow and never end.
#[derive(Debug)]
pub(super) struct Delays(ExponentialBackoff);

impl Default for Delays {
    fn default() -> Self {
        let growing = ExponentialBuilder::new()
            .with_min_delay(FIRST)
            .with_max_delay(LONGEST)
            .without_max_times()
            .with_jitter();
        Self(growing.build())
    }
}

impl Delays {
    /// Waits until it is time for the next try. May be cancelled.
    pub(super) async fn wait(&mut self) {
        tokio::time::sleep(self.0.next().unwrap_or(LONGEST)).await;
    }
}
