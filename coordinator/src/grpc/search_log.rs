//! Jobs.SearchLog: where a text is in the output of an attempt.

use std::time::Duration;

use baton_proto::{error::ApiError, v1};
use baton_state::JobId;
use tokio::{sync::mpsc, time::Instant};

use super::{
    gone,
    jobs::no_such_attempt,
    logs::{choose, missing, stream_filter},
};
use crate::{
    convert::{check_text, invalid},
    files::{FileName, FilesError, LineMatcher, StreamFilter},
    jobs::Jobs,
};

const TEXT_MAX: usize = 200;
const LINES_MAX: u32 = 1000;

/// How often the caller hears how far the search has come.
const PROGRESS_EVERY: Duration = Duration::from_millis(500);

/// What a caller looks for.
pub(super) struct Query {
    job: JobId,
    /// 0 for the newest.
    attempt: u32,
    filter: StreamFilter,
    matcher: LineMatcher,
    offset: u64,
    backwards: bool,
    limit: u32,
}

impl Query {
    pub(super) fn new(job: JobId, request: &v1::SearchLogRequest) -> Result<Self, ApiError> {
        check_text("text", &request.text, TEXT_MAX)?;
        if request.text.is_empty() {
            return Err(invalid("text", "is missing"));
        }
        Ok(Self {
            job,
            attempt: request.attempt,
            filter: stream_filter(request.stream)?,
            matcher: LineMatcher::new(&request.text),
            offset: request.offset,
            backwards: request.backwards,
            limit: request.limit.clamp(1, LINES_MAX),
        })
    }
}

/// Sends the lines that have the text, and now and then how far it has come.
pub(super) async fn search(
    jobs: Jobs,
    query: Query,
    answers: mpsc::Sender<v1::SearchLogResponse>,
) -> Result<(), ApiError> {
    let job = jobs.get(query.job).await?;
    let Some((number, attempt)) = choose(&job, query.attempt) else {
        // One that has had none yet has no output.
        return if query.attempt == 0 { Ok(()) } else { Err(no_such_attempt(&job, query.attempt)) };
    };
    let name = FileName::Log { job: query.job, lease: attempt.lease };
    jobs.replication.ensure(name).await?;
    let Query { filter, matcher, offset, backwards, .. } = query;
    let mut search = match jobs.files.search_log(name, filter, matcher, offset, backwards).await {
        Err(FilesError::NotFound(_)) if attempt.log.is_none() => return Ok(()),
        Err(FilesError::NotFound(_)) => return Err(missing(&jobs, query.job, number, name).await),
        search => search?,
    };
    let (mut left, mut told) = (query.limit, Instant::now());
    loop {
        let step = search.step().await?;
        for offset in step.found {
            let line = v1::SearchLogResponse { offset, found: true };
            answers.send(line).await.map_err(gone)?;
            left -= 1;
            if left == 0 {
                return Ok(());
            }
        }
        if step.is_over || told.elapsed() >= PROGRESS_EVERY {
            let progress = v1::SearchLogResponse { offset: step.looked_at, found: false };
            answers.send(progress).await.map_err(gone)?;
            told = Instant::now();
        }
        if step.is_over {
            return Ok(());
        }
    }
}
