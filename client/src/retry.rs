//! How long and how often to try again: exponential delays with jitter, within
//! a limit on the whole outage. Decides nothing about what is worth retrying;
//! [`ClientError::is_temporary`] does.

use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBackoff, ExponentialBuilder};
use baton_proto::error::{ApiError, Reason};
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
    running: Option<Running>,
}

struct Running {
    end: Instant,
    delays: ExponentialBackoff,
    /// What a coordinator itself said last.
    refusal: Option<ApiError>,
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
    /// `error` itself, when it is not temporary. When the outage lasted too long, what a
    /// coordinator said last, which tells more than a connection that another one refuses,
    /// and without that `error`.
    pub(crate) async fn wait(&mut self, error: ClientError) -> Result<(), ClientError> {
        if !error.is_temporary() {
            return Err(error);
        }
        let end = Instant::now() + self.patience.0;
        let running =
            self.running.get_or_insert_with(|| Running { end, delays: delays(), refusal: None });
        match &error {
            // It says why it breaks off, and nothing about what is there afterwards.
            ClientError::Refused(refusal) if refusal.reason != Reason::ShuttingDown => {
                running.refusal = Some(refusal.clone());
            }
            _ => {}
        }
        let delay = running.delays.next().unwrap_or(LONGEST_DELAY);
        let left = running.end.saturating_duration_since(Instant::now());
        if left < FIRST_DELAY {
            return Err(self.give_up(error));
        }
        // Towards the end, tries come closer together, and each has time left.
        sleep(delay.min(left / 2)).await;
        Ok(())
    }

    /// What to tell of an outage that ends with `error`.
    fn give_up(&mut self, error: ClientError) -> ClientError {
        let refusal = self.running.take().and_then(|running| running.refusal);
        refusal.map_or(error, ClientError::from)
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
/// The first error that is not temporary. When the time is over, what a coordinator said
/// last, and without that the last failure.
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
    let mut last = "no answer in time".to_owned();
    loop {
        let error = match timeout_at(end, call()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => return Err(outage.give_up(ClientError::Unreachable(last))),
        };
        if error.is_temporary() {
            waiting(&error);
            last = error.to_string();
        }
        outage.wait(error).await?;
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

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

    /// What is told when the first tries fail with `failures`, and all after them hang or
    /// fail as well.
    async fn told_after(failures: &[ClientError], then_hang: bool) -> ClientError {
        let calls = Cell::new(0);
        let result: Result<(), _> = retry(
            Patience(Duration::from_secs(30)),
            |_| (),
            || async {
                let call = calls.replace(calls.get() + 1);
                match failures.get(call) {
                    Some(ClientError::Refused(refusal)) => Err(refusal.clone().into()),
                    None if then_hang => std::future::pending().await,
                    _ => Err(broken()),
                }
            },
        )
        .await;
        result.unwrap_err()
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_coordinator_said_outlasts_connections_that_others_refuse() {
        let nobody_leads = || ApiError::new(Reason::NoLeader, "no leader", "look").into();
        for then_hang in [false, true] {
            let told = told_after(&[broken(), nobody_leads(), broken()], then_hang).await;
            let ClientError::Refused(refusal) = told else { panic!("{told}") };
            assert_eq!(refusal.reason, Reason::NoLeader);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn that_a_coordinator_was_stopping_is_not_told_of_one_that_has_gone() {
        let stopping = ApiError::new(Reason::ShuttingDown, "stopping", "again").into();
        assert_eq!(told_after(&[stopping], false).await.to_string(), "broken");
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
