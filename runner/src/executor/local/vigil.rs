//! Whether a shim still answers. A job can stop its own shim, and then neither
//! limits nor requests have an effect until somebody wakes it.
//!
//! Says only when to do what; whoever keeps the vigil does it.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// A shim that was found stopped more often than this is being kept from its work.
const AWAKENINGS: u32 = 2;

/// What a shim's silence demands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Duty {
    /// Ask it to answer.
    Ask,
    /// It did not: wake it in case it is stopped.
    Wake,
    /// It does not answer still.
    Judge,
}

/// The vigil over one shim.
#[derive(Debug)]
pub(super) struct Vigil {
    patience: Duration,
    next: Duty,
    due: Instant,
    /// How often it was found stopped.
    awakenings: u32,
}

impl Vigil {
    /// Silence of `patience` leads from each duty to the next.
    pub(super) fn new(patience: Duration) -> Self {
        Self { patience, next: Duty::Ask, due: Instant::now() + patience, awakenings: 0 }
    }

    /// The shim has said something.
    pub(super) fn heard(&mut self) {
        self.next = Duty::Ask;
        self.due = Instant::now() + self.patience;
    }

    /// It was woken, and was or was not `stopped` before.
    pub(super) fn woke(&mut self, stopped: bool) {
        self.awakenings += u32::from(stopped);
    }

    /// Waits until its silence demands something. May be cancelled.
    pub(super) async fn wait(&mut self) -> Duty {
        sleep_until(self.due).await;
        self.due = Instant::now() + self.patience;
        let duty = self.next;
        self.next = match duty {
            Duty::Ask if self.awakenings < AWAKENINGS => Duty::Wake,
            Duty::Ask | Duty::Wake | Duty::Judge => Duty::Judge,
        };
        duty
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(1);

    #[tokio::test]
    async fn a_silent_shim_is_asked_then_woken_then_judged() {
        let mut vigil = Vigil::new(PATIENCE);
        let start = Instant::now();
        for duty in [Duty::Ask, Duty::Wake, Duty::Judge, Duty::Judge] {
            assert_eq!(vigil.wait().await, duty);
        }
        assert!(start.elapsed() >= 4 * PATIENCE);
        vigil.heard();
        assert_eq!(vigil.wait().await, Duty::Ask);
    }

    #[tokio::test]
    async fn a_shim_that_is_stopped_again_and_again_is_not_woken_for_ever() {
        let mut vigil = Vigil::new(PATIENCE);
        for _ in 0..AWAKENINGS {
            assert_eq!(vigil.wait().await, Duty::Ask);
            assert_eq!(vigil.wait().await, Duty::Wake);
            vigil.woke(true);
            vigil.heard();
        }
        assert_eq!(vigil.wait().await, Duty::Ask);
        assert_eq!(vigil.wait().await, Duty::Judge);
    }
}
