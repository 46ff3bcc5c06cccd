//! How a command asks a cluster: for how long, and what a person is told meanwhile. What
//! follows a job goes its own way: see `follow` and `commands::logs`.

use std::{cell::Cell, pin::pin, time::Duration};

use baton_client::{ClientError, Connection, Patience};
use tokio::time::{Instant, sleep};

use crate::{connect::Cluster, messages::Messages};

/// After this time without any answer a person is told that the command waits.
const SILENT_FOR: Duration = Duration::from_secs(2);

/// A cluster of which a coordinator has answered.
pub(crate) struct Reached {
    pub(crate) cluster: Cluster,
    pub(crate) connection: Connection,
    /// The end of the connect timeout.
    answer_by: Instant,
    /// A question was answered.
    answered: Cell<bool>,
    messages: Messages,
}

impl Reached {
    pub(crate) fn new(
        cluster: Cluster,
        connection: Connection,
        answer_by: Instant,
        messages: Messages,
    ) -> Self {
        Self { cluster, connection, answer_by, answered: Cell::new(false), messages }
    }

    /// The answer to a question, which changes nothing and may be repeated. The first one
    /// comes within the connect timeout.
    ///
    /// # Errors
    /// The refusal, or why there is no answer.
    pub(crate) async fn ask<T>(
        &self,
        call: impl AsyncFn(&Connection) -> Result<T, ClientError>,
    ) -> anyhow::Result<T> {
        if self.answered.get() {
            return self.keep_asking(call).await;
        }
        let left = self.answer_by.saturating_duration_since(Instant::now());
        let connection = self.connection.answering_by(self.answer_by);
        let answer = self.repeat(Patience(left), &connection, call).await?;
        self.answered.set(true);
        Ok(answer)
    }

    /// The answer to a call that is worth to wait for until the reconnect timeout: a change,
    /// with an idempotency key or one that can be repeated, or what goes on for long.
    ///
    /// # Errors
    /// The refusal, or why there is no answer.
    pub(crate) async fn keep_asking<T>(
        &self,
        call: impl AsyncFn(&Connection) -> Result<T, ClientError>,
    ) -> anyhow::Result<T> {
        self.repeat(self.cluster.patience(), &self.connection, call).await
    }

    async fn repeat<T>(
        &self,
        patience: Patience,
        connection: &Connection,
        call: impl AsyncFn(&Connection) -> Result<T, ClientError>,
    ) -> anyhow::Result<T> {
        let told = Cell::new(false);
        let mut tell = tell_once(self.messages);
        let waiting = |cause: &ClientError| {
            told.set(true);
            tell(cause);
        };
        let mut answer = pin!(baton_client::retry(patience, waiting, || call(connection)));
        let answer = tokio::select! {
            answer = &mut answer => answer,
            () = sleep(SILENT_FOR.min(patience.0)) => {
                if !told.get() {
                    self.messages.note("no answer yet; waiting");
                }
                answer.await
            }
        };
        answer.map_err(|error| match error {
            ClientError::Unreachable(_) => anyhow::Error::new(error)
                .context(format!("no answer from the cluster at {}", self.cluster.address())),
            error => error.into(),
        })
    }
}

/// Says, the first time only, that a call is made again and why.
pub(crate) fn tell_once(messages: Messages) -> impl FnMut(&ClientError) {
    let mut told = false;
    move |cause| {
        if !std::mem::replace(&mut told, true) {
            messages.note(&format!("not yet ({cause}); trying again"));
        }
    }
}
