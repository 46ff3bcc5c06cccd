//! Jobs.Logs: the output of an attempt, from any place, and as it grows.

use std::pin::pin;

use baton_proto::{
    error::{ApiError, Reason},
    time::timestamp_from_micros,
    v1::{self, logs_request, logs_response::Item},
};
use baton_state::{Attempt, Job, JobId};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{gone, jobs::no_such_attempt};
use crate::{
    convert::invalid,
    files::{FileName, FilesError, Follow, LogItem, LogReader, Start, Stream, StreamFilter},
    jobs::Jobs,
};

/// What a caller wants to read.
pub(super) struct Query {
    pub(super) job: JobId,
    /// 0 for the newest.
    attempt: u32,
    filter: StreamFilter,
    start: logs_request::Start,
    follow: bool,
}

impl Query {
    pub(super) fn new(job: JobId, request: &v1::LogsRequest) -> Result<Self, ApiError> {
        let filter = stream_filter(request.stream)?;
        let start = request.start.unwrap_or(logs_request::Start::Offset(0));
        Ok(Self { job, attempt: request.attempt, filter, start, follow: request.follow })
    }

    /// Refuses an attempt that the job has not had, and will not have.
    pub(super) fn check(&self, job: &Job) -> Result<(), ApiError> {
        let had = self.attempt == 0 || job.attempts.len() >= self.attempt as usize;
        if had || (self.follow && !job.is_finished()) {
            Ok(())
        } else {
            Err(no_such_attempt(job, self.attempt))
        }
    }

    /// Where to begin in a log of so many bytes, and what the caller is told of that.
    fn place(&self, length: u64) -> (Start, u64) {
        match self.start {
            logs_request::Start::Position(position) => (Start::Position(position), 0),
            logs_request::Start::Offset(offset) => (Start::Offset(offset), offset),
            logs_request::Start::Tail(tail) => {
                let offset = length.saturating_sub(tail);
                (Start::Offset(offset), offset)
            }
        }
    }
}

/// Which stream is asked for.
pub(super) fn stream_filter(stream: i32) -> Result<StreamFilter, ApiError> {
    match v1::LogStream::try_from(stream) {
        Ok(v1::LogStream::Unspecified) => Ok(StreamFilter::Both),
        Ok(v1::LogStream::Stdout) => Ok(StreamFilter::Stdout),
        Ok(v1::LogStream::Stderr) => Ok(StreamFilter::Stderr),
        Ok(v1::LogStream::Note) | Err(_) => {
            Err(invalid("stream", "must be STDOUT, STDERR or unspecified"))
        }
    }
}

/// An attempt of a job, the newest for 0, with its number, if there is one by now.
pub(super) fn choose(job: &Job, attempt: u32) -> Option<(u32, &Attempt)> {
    let newest = u32::try_from(job.attempts.len()).unwrap_or(u32::MAX);
    let number = if attempt == 0 { newest } else { attempt };
    let attempt = job.attempts.get(usize::try_from(number).ok()?.checked_sub(1)?)?;
    Some((number, attempt))
}

/// Sends what is asked for; waits for the attempt if that is followed.
pub(super) async fn logs(
    jobs: Jobs,
    query: Query,
    answers: mpsc::Sender<v1::LogsResponse>,
) -> Result<(), ApiError> {
    let Some((number, attempt)) = find_attempt(&jobs, &query).await? else {
        return Ok(());
    };
    let name = FileName::Log { job: query.job, lease: attempt.lease };
    if !query.follow || attempt.outcome.is_some() {
        jobs.replication.ensure(name).await?;
    }
    let length = length(&jobs, name, &attempt, query.filter).await?;
    let (start, offset) = query.place(length);
    let told = v1::LogStart { attempt: number, lease: attempt.lease.0, offset, length };
    answers.send(response(Item::Start(told))).await.map_err(gone)?;
    match send(&jobs, &query, start, number, &attempt, &answers).await {
        Err(error) if error.reason == Reason::ChecksumMismatch => {
            Err(repaired(&jobs, &query, number, error).await)
        }
        sent => sent,
    }
}

/// Bytes of the chosen stream as it is now.
async fn length(
    jobs: &Jobs,
    name: FileName,
    attempt: &Attempt,
    filter: StreamFilter,
) -> Result<u64, ApiError> {
    match (&attempt.log, filter) {
        (Some(log), StreamFilter::Both) => Ok(log.stdout_length + log.stderr_length),
        (Some(log), StreamFilter::Stdout) => Ok(log.stdout_length),
        (Some(log), StreamFilter::Stderr) => Ok(log.stderr_length),
        (None, filter) => match jobs.files.log_length(name, filter).await {
            // What is whole of it is sent all the same.
            Err(FilesError::Damaged { .. }) => Ok(0),
            length => Ok(length?.unwrap_or(0)),
        },
    }
}

/// Sends the output of an attempt.
async fn send(
    jobs: &Jobs,
    query: &Query,
    start: Start,
    number: u32,
    attempt: &Attempt,
    answers: &mpsc::Sender<v1::LogsResponse>,
) -> Result<(), ApiError> {
    let over = CancellationToken::new();
    let live = attempt.outcome.is_none();
    let follow = if query.follow && live { Follow::Until(over.clone()) } else { Follow::No };
    let name = FileName::Log { job: query.job, lease: attempt.lease };
    let reader = match jobs.files.read_log(name, start, query.filter, follow).await {
        // An attempt that never wrote anything has no file.
        Err(FilesError::NotFound(_)) if attempt.log.is_none() => return Ok(()),
        Err(FilesError::NotFound(_)) => return Err(missing(jobs, query.job, number, name).await),
        reader => reader?,
    };
    let mut sending = pin!(send_all(reader, answers.clone()));
    let ended = if query.follow && live {
        tokio::select! {
            ended = &mut sending => ended?,
            watched = cancel_when_over(jobs, query, number, over) => {
                watched?;
                sending.await?
            }
        }
    } else {
        sending.await?
    };
    check_end(jobs, query, number, ended.as_ref()).await?;
    if let Some(end) = ended {
        answers.send(response(Item::End(end))).await.map_err(gone)?;
    }
    Ok(())
}

/// What to tell of output that is not here. Retention removes a job before its output: where
/// the job is there, the output is on its way, lost, or on a coordinator that is down.
pub(super) async fn missing(jobs: &Jobs, job: JobId, number: u32, name: FileName) -> ApiError {
    match jobs.get(job).await {
        Ok(_) if jobs.replication.is_elsewhere(name) => ApiError::new(
            Reason::LogOnItsWay,
            format!("the output of attempt {number} has yet to come from another coordinator"),
            "try again",
        ),
        Ok(_) => ApiError::new(
            Reason::LogMissing,
            format!("no coordinator that can be reached has the output of attempt {number}"),
            "start the coordinators that are down, and try again; if none is, it was lost with \
             their disks, and only a backup may still have it",
        ),
        Err(error) if error.reason == Reason::JobNotFound => FilesError::NotFound(name).into(),
        Err(error) => error,
    }
}

/// Has the output fetched anew if only the copy here is damaged; what to tell the reader.
async fn repaired(jobs: &Jobs, query: &Query, number: u32, error: ApiError) -> ApiError {
    let Ok(job) = jobs.get(query.job).await else { return error };
    let Some(attempt) = job.attempts.get(number as usize - 1) else { return error };
    let recorded = attempt.log.as_ref().and_then(|log| log.file_blake3.parse().ok());
    let name = FileName::Log { job: query.job, lease: attempt.lease };
    match recorded {
        Some(recorded) => jobs.replication.repaired(name, recorded, error).await,
        None => error,
    }
}

/// What was sent must end as the record says it does: a reader must not take a
/// damaged log for a whole one.
async fn check_end(
    jobs: &Jobs,
    query: &Query,
    number: u32,
    ended: Option<&v1::LogEnd>,
) -> Result<(), ApiError> {
    let job = jobs.get(query.job).await?;
    let attempt = job.attempts.get(number as usize - 1);
    let Some(recorded) = attempt.and_then(|attempt| attempt.log.as_ref()) else {
        return Ok(());
    };
    let whole = ended.is_some_and(|end| {
        (end.file_length, &end.file_blake3) == (recorded.file_length, &recorded.file_blake3)
    });
    if whole {
        return Ok(());
    }
    Err(ApiError::new(
        Reason::ChecksumMismatch,
        format!("the stored output of attempt {number} is not what was recorded"),
        "it was damaged on the coordinator's disk; restore it from a backup",
    ))
}

async fn find_attempt(jobs: &Jobs, query: &Query) -> Result<Option<(u32, Attempt)>, ApiError> {
    let mut changes = jobs.watch(query.job);
    loop {
        changes.mark_unchanged();
        let job = jobs.get(query.job).await?;
        if let Some((number, attempt)) = choose(&job, query.attempt) {
            return Ok(Some((number, attempt.clone())));
        }
        if job.is_finished() || !query.follow {
            return Ok(None);
        }
        // Watchers keep the sender as long as somebody receives.
        let _ = changes.changed().await;
    }
}

/// Tells the reader when no more output can come.
async fn cancel_when_over(
    jobs: &Jobs,
    query: &Query,
    number: u32,
    over: CancellationToken,
) -> Result<(), ApiError> {
    let mut changes = jobs.watch(query.job);
    loop {
        changes.mark_unchanged();
        let job = jobs.get(query.job).await?;
        let attempt = job.attempts.get(number as usize - 1);
        if attempt.is_none_or(|attempt| attempt.outcome.is_some()) {
            if let Some(attempt) = attempt {
                // What it is recorded with may still be on its way to this node.
                let name = FileName::Log { job: query.job, lease: attempt.lease };
                jobs.replication.ensure(name).await?;
            }
            over.cancel();
            return Ok(());
        }
        // Watchers keep the sender as long as somebody receives.
        let _ = changes.changed().await;
    }
}

/// Sends everything; the end, if the log has one.
async fn send_all(
    mut reader: LogReader,
    answers: mpsc::Sender<v1::LogsResponse>,
) -> Result<Option<v1::LogEnd>, ApiError> {
    let mut ended = None;
    while let Some(item) = reader.next().await? {
        match item {
            LogItem::Piece { stream, data, time_us, next } => {
                let stream = match stream {
                    Stream::Stdout => v1::LogStream::Stdout,
                    Stream::Stderr => v1::LogStream::Stderr,
                    Stream::Note => v1::LogStream::Note,
                };
                let time = Some(timestamp_from_micros(time_us));
                let piece = v1::LogPiece { stream: stream.into(), data, time, next };
                answers.send(response(Item::Piece(piece))).await.map_err(gone)?;
            }
            // Told once it is known to be as recorded.
            LogItem::End(end) => ended = Some(end),
        }
    }
    Ok(ended)
}

fn response(item: Item) -> v1::LogsResponse {
    v1::LogsResponse { item: Some(item) }
}
