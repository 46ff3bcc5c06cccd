//! The Jobs service.

use std::collections::BTreeSet;

use baton_proto::{
    error::{ApiError, Reason},
    time::millis_from_timestamp,
    v1::{self, jobs_server},
};
use baton_state::{Job, JobId, Timestamp, explain::Waiting};
use prost::Message;
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, Services, artifacts, gone, job_id, logs, readers, search_log, upload, watch};
use crate::{
    auth::{Principal, principal},
    convert::{self, check_text, invalid, job_to_proto, spec_from_proto},
    files::{Digest, FileName},
    history::{JobFilter, JobState},
    jobs::Caller,
};

const KEY_MAX: usize = 128;
const PROJECTS_MAX: usize = 64;
const PAGE_DEFAULT: u32 = 50;
const PAGE_MAX: u32 = 1000;
const DIGESTS_MAX: usize = 10_000;

#[tonic::async_trait]
impl jobs_server::Jobs for Services {
    async fn submit(
        &self,
        request: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        let caller = caller("submit", &request, |body| {
            // Whoever repeats a request may do so in another trace.
            if let Some(spec) = &mut body.spec {
                spec.trace_parent.clear();
                spec.trace_state.clear();
            }
            &mut body.idempotency_key
        })?;
        let spec = request.into_inner().spec.ok_or_else(|| invalid("spec", "is missing"))?;
        let spec = spec_from_proto(spec)?;
        self.check_size(spec.tree().map_or(0, |tree| tree.content))?;
        let job = self.jobs.submit(&caller, spec, None).await?;
        Ok(Response::new(v1::SubmitResponse { job: Some(job_to_proto(&job)) }))
    }

    async fn get(
        &self,
        request: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobResponse>, Status> {
        let job = self.jobs.get(self.permitted(&request, &request.get_ref().job_id)?).await?;
        Ok(Response::new(v1::GetJobResponse { job: Some(job_to_proto(&job)) }))
    }

    async fn list(
        &self,
        request: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        let request = request.into_inner();
        let page_size = page_size(request.page_size) as usize;
        let before = match request.page_token.as_str() {
            "" => JobId::MAX,
            token => token.parse().map_err(|_| invalid("page_token", "is none of this list"))?,
        };
        let page = self.jobs.list(&filter(request)?, before, page_size).await?;
        Ok(Response::new(v1::ListJobsResponse {
            next_page_token: page.last.map(|id| id.to_string()).unwrap_or_default(),
            jobs: page.jobs.iter().map(job_to_proto).collect(),
            unreadable: page.unreadable,
        }))
    }

    type WatchStream = Answers<v1::WatchJobResponse>;

    async fn watch(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let id = self.permitted(&request, &request.get_ref().job_id)?;
        let jobs = self.jobs.clone();
        // An unknown job is refused at once, not in the stream.
        jobs.get(id).await?;
        Ok(Response::new(self.stream(|answers| watch::watch(jobs, id, answers))))
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        let caller = caller("cancel", &request, |body| &mut body.idempotency_key)?;
        let request = request.into_inner();
        check_text("reason", &request.reason, 200)?;
        let job = self.jobs.cancel(&caller, job_id(&request.job_id)?, &request.reason).await?;
        Ok(Response::new(v1::CancelJobResponse { job: Some(job_to_proto(&job)) }))
    }

    async fn retry(
        &self,
        request: Request<v1::RetryJobRequest>,
    ) -> Result<Response<v1::RetryJobResponse>, Status> {
        let caller = caller("retry", &request, |body| &mut body.idempotency_key)?;
        let job = self.jobs.retry(&caller, job_id(&request.get_ref().job_id)?).await?;
        Ok(Response::new(v1::RetryJobResponse { job: Some(job_to_proto(&job)) }))
    }

    async fn set_priority(
        &self,
        request: Request<v1::SetPriorityRequest>,
    ) -> Result<Response<v1::SetPriorityResponse>, Status> {
        let caller = caller("set priority", &request, |body| &mut body.idempotency_key)?;
        let request = request.into_inner();
        let (id, priority) =
            (job_id(&request.job_id)?, convert::priority("priority", request.priority)?);
        let job = self.jobs.set_priority(&caller, id, priority).await?;
        Ok(Response::new(v1::SetPriorityResponse { job: Some(job_to_proto(&job)) }))
    }

    async fn why(
        &self,
        request: Request<v1::WhyRequest>,
    ) -> Result<Response<v1::WhyResponse>, Status> {
        let id = self.permitted(&request, &request.get_ref().job_id)?;
        let job = self.jobs.get(id).await?;
        let waiting = self.jobs.explain(id).map(waiting_to_proto);
        let message = match &waiting {
            Some(waiting) => waiting.message.clone(),
            None => not_waiting(&job),
        };
        Ok(Response::new(v1::WhyResponse { waiting, message }))
    }

    type LogsStream = Answers<v1::LogsResponse>;

    async fn logs(
        &self,
        request: Request<v1::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        let id = self.permitted(&request, &request.get_ref().job_id)?;
        let query = logs::Query::new(id, request.get_ref())?;
        let jobs = self.jobs.clone();
        let job = jobs.get(query.job).await?;
        query.check(&job)?;
        let place = self.readers.take()?;
        Ok(Response::new(self.stream_queueing(readers::QUEUE, |answers| async move {
            let _place = place;
            logs::logs(jobs, query, answers).await
        })))
    }

    type SearchLogStream = Answers<v1::SearchLogResponse>;

    async fn search_log(
        &self,
        request: Request<v1::SearchLogRequest>,
    ) -> Result<Response<Self::SearchLogStream>, Status> {
        let id = self.permitted(&request, &request.get_ref().job_id)?;
        let query = search_log::Query::new(id, request.get_ref())?;
        let jobs = self.jobs.clone();
        // An unknown job is refused at once, not in the stream.
        jobs.get(id).await?;
        let place = self.readers.take()?;
        Ok(Response::new(self.stream_queueing(readers::QUEUE, |answers| async move {
            let _place = place;
            search_log::search(jobs, query, answers).await
        })))
    }

    type UploadStream = Answers<v1::UploadResponse>;

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        let (jobs, limit) = (self.jobs.clone(), self.archive_limit);
        let inbound = request.into_inner();
        Ok(Response::new(self.stream(|answers| upload::upload(jobs, limit, inbound, answers))))
    }

    async fn find_missing(
        &self,
        request: Request<v1::FindMissingRequest>,
    ) -> Result<Response<v1::FindMissingResponse>, Status> {
        let request = request.into_inner();
        self.check_size(request.content)?;
        Ok(Response::new(self.missing(request).await?))
    }

    type ArtifactsStream = Answers<v1::ArtifactsResponse>;

    async fn artifacts(
        &self,
        request: Request<v1::ArtifactsRequest>,
    ) -> Result<Response<Self::ArtifactsStream>, Status> {
        let id = self.permitted(&request, &request.get_ref().job_id)?;
        let tree = artifacts::find(&self.jobs.get(id).await?, request.get_ref().attempt)?;
        let jobs = self.jobs.clone();
        Ok(Response::new(self.stream(|answers| artifacts::list(jobs, tree, answers))))
    }

    type FetchArtifactsStream = Answers<v1::FileChunk>;

    async fn fetch_artifacts(
        &self,
        request: Request<v1::FetchArtifactsRequest>,
    ) -> Result<Response<Self::FetchArtifactsStream>, Status> {
        let id = self.permitted(&request, &request.get_ref().job_id)?;
        let request = request.into_inner();
        let tree = artifacts::find(&self.jobs.get(id).await?, request.attempt)?;
        let digest = artifacts::content(&self.jobs, &tree, &request.chunk).await?;
        Ok(Response::new(self.content(digest, request.offset).await?))
    }
}

impl Services {
    /// What has to be brought of some contents.
    pub(super) async fn missing(
        &self,
        request: v1::FindMissingRequest,
    ) -> Result<v1::FindMissingResponse, ApiError> {
        let v1::FindMissingRequest { digests, trees, content: _ } = request;
        if digests.len() + trees.len() > DIGESTS_MAX {
            return Err(invalid("digests", format!("must be at most {DIGESTS_MAX}")));
        }
        let (digests, trees) = (read_digests("digests", &digests)?, read_digests("trees", &trees)?);
        let asked: BTreeSet<_> = digests.iter().chain(&trees).copied().collect();
        let missing = self.jobs.contents().find_missing(digests, trees.clone()).await?;
        let missing = bounded(missing, &asked, trees);
        let missing = missing.iter().map(Digest::to_string).collect();
        Ok(v1::FindMissingResponse { missing })
    }

    /// The bytes of a content from an offset on. A damaged one is fetched anew.
    pub(super) async fn content(
        &self,
        digest: Digest,
        offset: u64,
    ) -> Result<Answers<v1::FileChunk>, ApiError> {
        let name = FileName::Upload { digest };
        self.jobs.replication.ensure(name).await?;
        let mut reader = self.jobs.files.read(name, offset).await?;
        let replication = self.jobs.replication.clone();
        Ok(self.stream(|answers| async move {
            loop {
                let offset = reader.offset();
                let data = match reader.next().await {
                    Ok(Some(data)) => data,
                    Ok(None) => return Ok(()),
                    Err(error) => {
                        return Err(replication.repaired_content(digest, error.into()).await);
                    }
                };
                answers.send(v1::FileChunk { offset, data }).await.map_err(gone)?;
            }
        }))
    }

    /// Refuses a tree of so many bytes, if it is too large.
    fn check_size(&self, content: u64) -> Result<(), ApiError> {
        if content <= self.tree_limit {
            return Ok(());
        }
        Err(ApiError::new(
            Reason::TooLarge,
            format!("the folder has {content} bytes, the limit is {}", self.tree_limit),
            "leave files out with .batonignore, or raise the coordinator's tree limit",
        ))
    }
}

/// What is missing of what was asked for, or where that is too much for an answer, the trees in
/// the place of their chunks.
fn bounded(
    mut missing: BTreeSet<Digest>,
    asked: &BTreeSet<Digest>,
    trees: Vec<Digest>,
) -> BTreeSet<Digest> {
    if missing.len() > DIGESTS_MAX {
        missing.extend(trees);
        missing.retain(|digest| asked.contains(digest));
    }
    missing
}

fn read_digests(field: &'static str, digests: &[String]) -> Result<Vec<Digest>, ApiError> {
    let digests = digests.iter().map(|digest| digest.parse());
    digests.collect::<Result<_, _>>().map_err(|error| invalid(field, error))
}

/// Who asks, and a hash of what for: of the whole body but its key.
pub(super) fn caller<T: Message + Clone>(
    call: &str,
    request: &Request<T>,
    key: impl FnOnce(&mut T) -> &mut String,
) -> Result<Caller, ApiError> {
    let mut body = request.get_ref().clone();
    let key = std::mem::take(key(&mut body));
    if key.len() > KEY_MAX {
        return Err(invalid("idempotency_key", format!("must be at most {KEY_MAX} bytes")));
    }
    check_text("idempotency_key", &key, KEY_MAX)?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(call.as_bytes()).update(b"\0").update(&body.encode_to_vec());
    let name = principal(request).map(Principal::name).unwrap_or_default().into_owned();
    Ok(Caller { name, key, digest: hasher.finalize().into() })
}

/// How many a page has.
pub(super) fn page_size(wanted: u32) -> u32 {
    match wanted {
        0 => PAGE_DEFAULT,
        size => size.min(PAGE_MAX),
    }
}

pub(super) fn filter(request: v1::ListJobsRequest) -> Result<JobFilter, ApiError> {
    if request.text.len() > 1000 {
        return Err(invalid("text", "must be at most 1000 bytes"));
    }
    if request.projects.len() > PROJECTS_MAX {
        return Err(invalid("projects", format!("must be at most {PROJECTS_MAX}")));
    }
    let states = request.states.iter().map(|state| job_state(*state));
    Ok(JobFilter {
        projects: request.projects.into_iter().collect(),
        states: states.collect::<Result<_, _>>()?,
        runner: (!request.runner.is_empty()).then_some(request.runner),
        labels: convert::labels(&request.labels)?,
        text: request.text,
        submitted_after: request.submitted_after.as_ref().map(time),
        submitted_before: request.submitted_before.as_ref().map(time),
        dead_letters: request.dead_letters,
    })
}

fn job_state(value: i32) -> Result<JobState, ApiError> {
    let state = v1::JobState::try_from(value).unwrap_or_default();
    match state {
        v1::JobState::Queued => Ok(JobState::Queued),
        v1::JobState::Leased => Ok(JobState::Leased),
        v1::JobState::Running => Ok(JobState::Running),
        other => convert::state_from_proto(other)
            .map(JobState::Finished)
            .ok_or_else(|| invalid("states", format!("{value} is no state of a job"))),
    }
}

fn time(time: &prost_types::Timestamp) -> Timestamp {
    Timestamp(millis_from_timestamp(time))
}

/// Why a job waits, as the API shows it.
pub(super) fn waiting_to_proto(waiting: Waiting) -> v1::Waiting {
    v1::Waiting {
        reason: waiting.reason.as_str().to_owned(),
        message: waiting.message,
        ahead: waiting.ahead as u64,
    }
}

fn not_waiting(job: &Job) -> String {
    match (job.outcome(), job.current()) {
        (Some(outcome), _) => format!("it does not wait: it has ended ({})", outcome.message),
        (None, Some(attempt)) => {
            format!("it does not wait: runner {} has it", attempt.runner_name)
        }
        (None, None) => "it is about to start".to_owned(),
    }
}

/// An attempt that the job has not had.
pub(super) fn no_such_attempt(job: &Job, number: u32) -> ApiError {
    ApiError::new(
        Reason::AttemptNotFound,
        format!("job {} has had {} attempts, not {number}", job.id, job.attempts.len()),
        "leave the attempt out for the newest one",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_than_an_answer_has_room_for_is_asked_for_by_digest() {
        let digest = |number: usize| format!("{number:064x}").parse::<Digest>().unwrap();
        let all = |count: usize| (0..count).map(digest).collect::<BTreeSet<_>>();
        let (tree, asked) = (digest(usize::MAX), [digest(0), digest(usize::MAX)].into());
        assert_eq!(bounded(all(DIGESTS_MAX), &asked, vec![tree]), all(DIGESTS_MAX));
        let expected = [digest(0), tree].into();
        assert_eq!(bounded(all(DIGESTS_MAX + 1), &asked, vec![tree]), expected);
    }
}
