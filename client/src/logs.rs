//! The output of a job as one stream that outlives broken connections, restarts
//! of the coordinator and, when asked to, the attempts of the job: every byte
//! once and in order.

use baton_proto::v1::{
    Attempt, GetJobRequest, LogEnd, LogPiece, LogStream, LogsRequest, LogsResponse,
    logs_request::Start, logs_response::Item,
};
use futures::stream::{BoxStream, StreamExt as _, unfold};
use tonic::Streaming;

use crate::{
    ClientError, Connection, Patience, WatchEvent,
    received::Received,
    retry::Outage,
    watch::{is_final, watch},
};

/// How far [`read_log`] reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogUntil {
    /// What is there now.
    Now,
    /// The end of the attempt.
    AttemptEnd,
    /// The end of the job: also the attempts that follow.
    JobEnd,
}

/// Where [`read_log`] begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogBegin {
    /// Behind so many bytes.
    Offset(u64),
    /// So many bytes before the end, or at the beginning where there are fewer.
    Tail(u64),
}

/// Which output to read.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// The job.
    pub job_id: String,
    /// Its attempt, from 1; the newest when 0.
    pub attempt: u32,
    /// `Stdout`, `Stderr`, or `Unspecified` for both.
    pub stream: LogStream,
    /// Where in the first attempt's output to begin.
    pub begin: LogBegin,
    /// How far to read.
    pub until: LogUntil,
}

/// What [`read_log`] tells.
#[derive(Clone, Debug, PartialEq)]
pub enum LogEvent {
    /// What follows is the output of this attempt.
    Attempt {
        /// Which one.
        number: u32,
        /// Bytes of it that are left out.
        offset: u64,
        /// Bytes of it that there are by now.
        length: u64,
    },
    /// Bytes, each exactly once.
    Piece(LogPiece),
    /// The attempt's output ended.
    End {
        /// Which attempt's.
        attempt: u32,
        /// Lengths and checksums; `None` when the runner was lost, so that the
        /// output may lack its end.
        end: Option<LogEnd>,
    },
    /// The connection broke; it is being made again.
    Reconnecting {
        /// What broke it, for people.
        cause: String,
    },
    /// It is there again.
    Reconnected,
}

/// Reads output as `options` say. Dropping a half-polled `next()` loses nothing.
///
/// With [`LogUntil::JobEnd`] it also waits for the first attempt of a queued job.
/// What came is compared with the record before an attempt's end is told.
///
/// # Errors
/// The stream's last item, when the coordinator refuses or stays away for
/// longer than `patience`, or when the output is not what was recorded.
pub fn read_log(
    connection: Connection,
    options: LogOptions,
    patience: Patience,
) -> BoxStream<'static, Result<LogEvent, ClientError>> {
    let phase = match options.until {
        LogUntil::JobEnd => Phase::find(&connection, &options.job_id, options.attempt, patience),
        LogUntil::Now | LogUntil::AttemptEnd => Phase::Read(None),
    };
    let (start, left_out) = match options.begin {
        LogBegin::Offset(offset) => (Start::Offset(offset), offset),
        LogBegin::Tail(length) => (Start::Tail(length), 0),
    };
    let follower = Follower {
        connection,
        patience,
        attempt: options.attempt,
        announced: false,
        start,
        left_out,
        received: Received::default(),
        options,
        outage: Outage::new(patience),
        phase,
        failure: None,
        held: None,
    };
    unfold(follower, |mut follower| async move {
        let item = follower.next().await.transpose()?;
        if item.is_err() {
            follower.phase = Phase::Done;
        }
        Some((item, follower))
    })
    .boxed()
}

enum Phase {
    /// Waits until attempt `wanted` exists (any, when 0).
    Find {
        wanted: u32,
        changes: BoxStream<'static, Result<WatchEvent, ClientError>>,
    },
    /// Reads the current attempt; the stream is opened when needed.
    Read(Option<Box<Streaming<LogsResponse>>>),
    Done,
}

impl Phase {
    fn find(connection: &Connection, job_id: &str, wanted: u32, patience: Patience) -> Self {
        Self::Find { wanted, changes: watch(connection.clone(), job_id, patience) }
    }
}

struct Follower {
    connection: Connection,
    options: LogOptions,
    patience: Patience,
    /// The attempt being read; 0 until the coordinator has said which is the newest.
    attempt: u32,
    announced: bool,
    /// Where the next stream of this attempt starts.
    start: Start,
    /// How many of this attempt's bytes were not asked for.
    left_out: u64,
    received: Received,
    outage: Outage,
    phase: Phase,
    /// The failure to wait for before the next try.
    failure: Option<ClientError>,
    /// The event that comes after `Reconnected`.
    held: Option<LogEvent>,
}

impl Follower {
    async fn next(&mut self) -> Result<Option<LogEvent>, ClientError> {
        if let Some(event) = self.held.take() {
            return Ok(Some(event));
        }
        loop {
            let event = match &mut self.phase {
                Phase::Done => return Ok(None),
                Phase::Find { .. } => self.find().await?,
                Phase::Read(_) => self.read().await?,
            };
            if event.is_some() {
                return Ok(event);
            }
        }
    }

    /// One step towards the wanted attempt.
    async fn find(&mut self) -> Result<Option<LogEvent>, ClientError> {
        let Phase::Find { wanted, changes } = &mut self.phase else { return Ok(None) };
        let job = match changes.next().await.transpose()? {
            Some(WatchEvent::Update { job, .. }) => job,
            Some(WatchEvent::Reconnecting { cause }) => {
                return Ok(Some(LogEvent::Reconnecting { cause }));
            }
            Some(WatchEvent::Reconnected) => return Ok(Some(LogEvent::Reconnected)),
            None => {
                self.phase = Phase::Done;
                return Ok(None);
            }
        };
        let newest = job.attempts.last().map_or(0, |attempt| attempt.number);
        if newest >= (*wanted).max(1) {
            self.attempt = if *wanted == 0 { newest } else { *wanted };
            self.announced = false;
            self.phase = Phase::Read(None);
        } else if is_final(job.state()) {
            self.phase = Phase::Done;
        }
        Ok(None)
    }

    /// One step of reading, with the outage around it.
    async fn read(&mut self) -> Result<Option<LogEvent>, ClientError> {
        if let Some(failure) = self.failure.take() {
            self.outage.wait(failure).await?;
        }
        match self.receive().await {
            Ok(event) if self.outage.over() => {
                self.held = event;
                Ok(Some(LogEvent::Reconnected))
            }
            Ok(event) => Ok(event),
            Err(error) if !error.is_temporary() => Err(error),
            Err(error) => {
                let cause = error.to_string();
                self.phase = Phase::Read(None);
                self.failure = Some(error);
                let first = !self.outage.is_running();
                Ok(first.then_some(LogEvent::Reconnecting { cause }))
            }
        }
    }

    async fn receive(&mut self) -> Result<Option<LogEvent>, ClientError> {
        let request = LogsRequest {
            job_id: self.options.job_id.clone(),
            attempt: self.attempt,
            stream: self.options.stream.into(),
            start: Some(self.start),
            follow: self.options.until != LogUntil::Now,
        };
        let Phase::Read(stream) = &mut self.phase else { return Ok(None) };
        let stream = match stream {
            Some(stream) => stream,
            empty @ None => {
                empty.insert(Box::new(self.connection.jobs().logs(request).await?.into_inner()))
            }
        };
        let Some(message) = stream.message().await? else { return self.ended_early().await };
        match message.item.ok_or_else(|| ClientError::missing("item"))? {
            Item::Start(start) => {
                self.attempt = start.attempt;
                if std::mem::replace(&mut self.announced, true) {
                    return Ok(None);
                }
                if let Start::Tail(_) = self.start {
                    // When the stream breaks, it begins here again.
                    (self.start, self.left_out) = (Start::Offset(start.offset), start.offset);
                }
                let (number, offset, length) = (start.attempt, self.left_out, start.length);
                Ok(Some(LogEvent::Attempt { number, offset, length }))
            }
            Item::Piece(piece) => {
                self.start = Start::Position(piece.next);
                self.received.add(&piece);
                Ok(Some(LogEvent::Piece(piece)))
            }
            Item::End(end) => {
                let (attempt, chosen) = (self.attempt, self.options.stream);
                self.received.check(attempt, chosen, self.left_out, &end)?;
                Ok(Some(self.attempt_over(Some(end))))
            }
        }
    }

    /// The stream closed without the log's end: either the attempt is over
    /// without one, or the connection went away politely.
    async fn ended_early(&mut self) -> Result<Option<LogEvent>, ClientError> {
        let request = GetJobRequest { job_id: self.options.job_id.clone() };
        let job = self.connection.jobs().get(request).await?.into_inner().job;
        let attempts = job.ok_or_else(|| ClientError::missing("job"))?.attempts;
        let over = |attempt: &&Attempt| {
            attempt.number == self.attempt && attempt.outcome.is_some() && attempt.log.is_none()
        };
        if let Some(attempt) = attempts.iter().find(over) {
            // Where nothing ever ran, nothing is missing.
            let end = never_ran(attempt).then(LogEnd::default);
            return Ok(Some(self.attempt_over(end)));
        }
        if self.options.until == LogUntil::Now {
            self.phase = Phase::Done;
            return Ok(None);
        }
        Err(ClientError::Unreachable("the coordinator ended the stream".to_owned()))
    }

    fn attempt_over(&mut self, end: Option<LogEnd>) -> LogEvent {
        let attempt = self.attempt;
        self.phase = match self.options.until {
            LogUntil::Now | LogUntil::AttemptEnd => Phase::Done,
            LogUntil::JobEnd => Phase::find(
                &self.connection,
                &self.options.job_id,
                attempt.saturating_add(1),
                self.patience,
            ),
        };
        self.start = Start::Offset(0);
        self.left_out = 0;
        self.received = Received::default();
        LogEvent::End { attempt, end }
    }
}

/// Its runner saw that there was no process: one whose runner was lost may have had one.
fn never_ran(attempt: &Attempt) -> bool {
    attempt.started_at.is_none() && attempt.outcome.as_ref().is_some_and(|it| it.tree_gone)
}
