//! How long and how often to try again: exponential delays with jitter, within
//! a limit on the whole outage. Decides nothing about what is worth retrying;
//! [`ClientError::is_temporary`] does.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use tokio::time::{Instant, sleep, timeout_at};

use crate::ClientError;

const FIRST_DELAY: Duration = Duration::from_millis(50);
const LONGEST_DELAY: Duration = Duration::from_secs(2);

/// How long an outage may last before the caller is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience(pub Duration);

/// One outage: from the first failure until a success.
pub(crate) struct Outage {
    patience: Patience,
    running: Option<(Instant, ExponentialBackoff)>,
}

impl Outage {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, running: None }
    }

    /// A failure has been seen and no success since.
    pub(crate) fn is_running(&self) -> bool {
        self.running.is_some()
    }

    /// Ends the outage; true when there was one.
    pub(crate) fn over(&mut self) -> bool {
        self.running.take().is_some()
    }

    /// Waits for the time of the next try.
    ///
    /// # Errors
    /// `error` itself, when it is not temporary or the outage lasted too long.
    pub(crate) async fn wait(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_temporary() {
            return Err(error);
        }
        let patience = self.patience.0;
        let (end, delays) =
            self.running.get_or_insert_with(|| (Instant::now() + patience, delays()));
        let delay = delays.next().unwrap_or(LONGEST_DELAY);
        let left = end.saturating_duration_since(Instant::now());
        if left < FIRST_DELAY {
            return Err(error);
        }
        // Towards the end, tries come closer together, and each has time left.
        sleep(delay.min(left / 2)).await;
        Ok(())
    }
}

fn delays() -> ExponentialBackoff {
    ExponentialBuilder::new()
        .with_min_delay(FIRST_DELAY)
        .with_max_delay(LONGEST_DELAY)
        .without_max_times()
        .with_jitter()
        .build()
}

/// Repeats `call` while its error is temporary, for `patience` in all; the call
/// in progress at that time is given up.
///
/// Only for calls that may be repeated: reads, and changes whose idempotency
/// key stays the same. `waiting` hears of each failure that is followed by another try.
///
/// # Errors
/// The first error that is not temporary, or the last temporary one.
pub async fn retry<T, F>(
    patience: Patience,
    mut waiting: impl FnMut(&ClientError),
    mut call: impl FnMut() -> F,
) -> Result<T, ClientError>
where
    F: Future<Output = Result<T, ClientError>>,
{
    let mut outage = Outage::new(patience);
    let end = Instant::now() + patience.0;
    let mut last = None;
    loop {
        let error = match timeout_at(end, call()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => {
                return Err(last
                    .unwrap_or_else(|| ClientError::Unreachable("no answer in time".to_owned())));
            }
        };
        if error.is_temporary() {
            waiting(&error);
            last = Some(ClientError::Unreachable(error.to_string()));
        }
        outage.wait(error).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use baton_proto::error::{ApiError, Reason};

    use super::*;

    fn broken() -> ClientError {
        ClientError::Unreachable("broken".to_owned())
    }

    #[tokio::test(start_paused = true)]
    async fn a_temporary_error_is_tried_again_until_it_goes_away() {
        let calls = Cell::new(0);
        let result = retry(
            Patience(Duration::from_secs(60)),
            |_| (),
            || async {
                calls.set(calls.get() + 1);
                if calls.get() < 5 { Err(broken()) } else { Ok(calls.get()) }
            },
        )
        .await;
        assert_eq!(result.unwrap(), 5);
    }

    #[tokio::test(start_paused = true)]
    async fn a_refusal_is_final() {
        let calls = Cell::new(0);
        let result: Result<(), _> = retry(
            Patience(Duration::from_secs(60)),
            |_| (),
            || async {
                calls.set(calls.get() + 1);
                Err(ApiError::new(Reason::JobNotFound, "no", "look").into())
            },
        )
        .await;
        assert!(result.unwrap_err().refusal().is_some());
        assert_eq!(calls.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn patience_ends_with_the_last_error() {
        let start = Instant::now();
        let told = Cell::new(0);
        let result: Result<(), _> = retry(
            Patience(Duration::from_secs(30)),
            |_| told.set(told.get() + 1),
            || async { Err(broken()) },
        )
        .await;
        assert_eq!(result.unwrap_err().to_string(), "broken");
        assert!(told.get() > 10, "tried {} times", told.get());
        let early = Duration::from_secs(30) - start.elapsed();
        assert!(early < FIRST_DELAY, "{early:?} too early");
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_hangs_is_given_up_in_time() {
        let start = Instant::now();
        let result: Result<(), _> =
            retry(Patience(Duration::from_secs(30)), |_| (), std::future::pending).await;
        assert!(result.unwrap_err().is_temporary());
        assert_eq!(start.elapsed().as_secs(), 30);
    }
}
