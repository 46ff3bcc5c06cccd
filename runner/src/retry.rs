//! The waits between tries at something that has no other way than to succeed.
//! What counts as a failure worth another try is for its caller to say.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};

/// What the waits grow to.
const LONGEST: Duration = Duration::from_secs(5);

/// Waits that grow from `first` to five seconds and never end.
#[derive(Debug)]
pub(crate) struct Delays(ExponentialBackoff);

impl Delays {
    pub(crate) fn new(first: Duration) -> Self {
        let growing = ExponentialBuilder::new()
            .with_min_delay(first)
            .with_max_delay(LONGEST)
            .without_max_times()
            .with_jitter();
        Self(growing.build())
    }

    /// Waits until it is time for the next try. May be cancelled.
    pub(crate) async fn wait(&mut self) {
        tokio::time::sleep(self.0.next().unwrap_or(LONGEST)).await;
    }
}
