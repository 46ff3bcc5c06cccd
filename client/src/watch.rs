//! A job and its changes as one stream that outlives broken connections.

use baton_proto::v1::{Job, JobState, Waiting, WatchJobRequest, WatchJobResponse};
use futures::stream::{BoxStream, StreamExt as _, unfold};
use tonic::Streaming;

use crate::{ClientError, Connection, Patience, retry::Outage};

/// What [`watch`] tells.
#[derive(Clone, Debug, PartialEq)]
pub enum WatchEvent {
    /// The job as it is now.
    Update {
        /// Its record.
        job: Box<Job>,
        /// Why it waits; set while it is queued.
        waiting: Option<Waiting>,
    },
    /// The connection broke; it is being made again.
    Reconnecting {
        /// What broke it, for people.
        cause: String,
    },
    /// It is there again.
    Reconnected,
}

/// Follows `job_id` to its final state, which is the last update.
///
/// Reconnects for `patience` from the last answer on. Dropping a half-polled
/// `next()` loses nothing.
///
/// # Errors
/// The stream's last item, when the coordinator refuses or stays away.
pub fn watch(
    connection: Connection,
    job_id: impl Into<String>,
    patience: Patience,
) -> BoxStream<'static, Result<WatchEvent, ClientError>> {
    let watcher = Watcher {
        connection,
        job_id: job_id.into(),
        outage: Outage::new(patience),
        stream: None,
        failure: None,
        held: None,
        over: false,
    };
    unfold(watcher, |mut watcher| async move {
        let item = watcher.next().await.transpose()?;
        watcher.over |= item.is_err();
        Some((item, watcher))
    })
    .boxed()
}

/// The job ended: no further change will come.
pub(crate) fn is_final(state: JobState) -> bool {
    match state {
        JobState::Unspecified | JobState::Queued | JobState::Leased | JobState::Running => false,
        JobState::Succeeded
        | JobState::Failed
        | JobState::TimedOut
        | JobState::Cancelled
        | JobState::Error
        | JobState::Lost => true,
    }
}

struct Watcher {
    connection: Connection,
    job_id: String,
    outage: Outage,
    stream: Option<Streaming<WatchJobResponse>>,
    /// The failure to wait for before the next try.
    failure: Option<ClientError>,
    /// The update that comes after `Reconnected`.
    held: Option<WatchEvent>,
    over: bool,
}

impl Watcher {
    async fn next(&mut self) -> Result<Option<WatchEvent>, ClientError> {
        if let Some(event) = self.held.take() {
            return Ok(Some(event));
        }
        while !self.over {
            if let Some(failure) = self.failure.take() {
                self.outage.wait(failure).await?;
            }
            match self.receive().await {
                Ok(update) if self.outage.over() => {
                    self.held = Some(update);
                    return Ok(Some(WatchEvent::Reconnected));
                }
                Ok(update) => return Ok(Some(update)),
                Err(error) if !error.is_temporary() => return Err(error),
                Err(error) => {
                    let cause = error.to_string();
                    self.stream = None;
                    self.failure = Some(error);
                    if !self.outage.is_running() {
                        return Ok(Some(WatchEvent::Reconnecting { cause }));
                    }
                }
            }
        }
        Ok(None)
    }

    async fn receive(&mut self) -> Result<WatchEvent, ClientError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            empty @ None => {
                let request = WatchJobRequest { job_id: self.job_id.clone() };
                empty.insert(self.connection.jobs().watch(request).await?.into_inner())
            }
        };
        let Some(update) = stream.message().await? else {
            return Err(ClientError::Unreachable("the coordinator ended the stream".to_owned()));
        };
        let job = update.job.ok_or_else(|| ClientError::missing("job"))?;
        self.over = is_final(job.state());
        Ok(WatchEvent::Update { job: Box::new(job), waiting: update.waiting })
    }
}
