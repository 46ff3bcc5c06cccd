//! A coordinator that breaks each stream after a few messages.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, MutexGuard},
};

use baton_proto::{
    error::{ApiError, Reason},
    v1::{
        self, cluster_server::Cluster, jobs_server::Jobs, logs_request::Start, logs_response::Item,
        upload_request,
    },
};
use bytes::Bytes;
use futures::{
    StreamExt as _,
    stream::{self, BoxStream},
};
use tonic::{Request, Response, Status, Streaming};

/// Pieces of each attempt's output.
pub(crate) const PIECES: u64 = 10;
/// Bytes of each.
pub(crate) const PIECE: u64 = 4;
/// Messages after which a stream breaks.
const BREAK_AFTER: usize = 3;
#[derive(Default)]
pub(crate) struct Facts {
    /// The first attempt's output was read to its end, so its runner is lost.
    pub(crate) first_lost: bool,
    /// The second attempt's output was read to its end, so the job has ended.
    pub(crate) ended: bool,
    pub(crate) stored: Vec<u8>,
    pub(crate) uploads: usize,
    pub(crate) watches: usize,
    /// Every call fails.
    pub(crate) away: bool,
    /// The record of the second attempt has other bytes.
    pub(crate) damaged: bool,
    /// Which servers were called.
    pub(crate) called: BTreeSet<usize>,
    /// Which servers know a leader.
    pub(crate) led: BTreeSet<usize>,
}

/// A coordinator that keeps breaking streams. Several of one cluster share the facts.
#[derive(Clone)]
pub(crate) struct Fragile {
    pub(crate) number: usize,
    pub(crate) facts: Arc<Mutex<Facts>>,
}

pub(crate) fn numbers(attempt: u32) -> String {
    (0..PIECES).map(|number| format!("{attempt}:{number} ")).collect()
}

fn broken() -> Status {
    Status::unavailable("broken on purpose")
}

impl Fragile {
    fn facts(&self) -> MutexGuard<'_, Facts> {
        let mut facts = self.facts.lock().unwrap();
        facts.called.insert(self.number);
        facts
    }

    fn job(&self) -> v1::Job {
        let facts = self.facts();
        let outcome =
            |state: v1::JobState| v1::Outcome { state: state.into(), ..Default::default() };
        let state = if facts.ended { v1::JobState::Succeeded } else { v1::JobState::Running };
        let mut attempts = vec![v1::Attempt {
            number: 1,
            outcome: facts.first_lost.then(|| outcome(v1::JobState::Lost)),
            ..Default::default()
        }];
        if facts.first_lost {
            attempts.push(v1::Attempt { number: 2, ..Default::default() });
        }
        v1::Job { id: "J".to_owned(), state: state.into(), attempts, ..Default::default() }
    }

    fn log(&self, request: &v1::LogsRequest) -> Vec<Result<v1::LogsResponse, Status>> {
        let item = |item| Ok(v1::LogsResponse { item: Some(item) });
        let attempt = request.attempt;
        let from = match request.start {
            Some(Start::Position(position)) => position,
            Some(Start::Offset(offset)) => offset / PIECE,
            Some(Start::Tail(length)) => PIECES - length / PIECE,
            None => 0,
        };
        let (offset, length) = (from * PIECE, PIECES * PIECE);
        let start = v1::LogStart { attempt, lease: u64::from(attempt), offset, length };
        let mut items = vec![item(Item::Start(start))];
        for number in from..PIECES {
            items.push(item(Item::Piece(v1::LogPiece {
                stream: v1::LogStream::Stdout.into(),
                data: Bytes::from(format!("{attempt}:{number} ")),
                next: number + 1,
                ..Default::default()
            })));
        }
        let mut facts = self.facts();
        if items.len() > BREAK_AFTER {
            items.truncate(BREAK_AFTER);
            items.push(Err(broken()));
        } else if attempt == 1 {
            facts.first_lost = true;
        } else {
            facts.ended = true;
            let mut whole = numbers(attempt);
            if facts.damaged {
                whole.replace_range(..1, "9");
            }
            items.push(item(Item::End(v1::LogEnd {
                stdout_length: whole.len() as u64,
                stdout_blake3: blake3::hash(whole.as_bytes()).to_string(),
                stderr_blake3: blake3::hash(b"").to_string(),
                ..Default::default()
            })));
        }
        items
    }
}

#[tonic::async_trait]
impl Jobs for Fragile {
    type ArtifactsStream = BoxStream<'static, Result<v1::ArtifactsResponse, Status>>;
    type FetchArtifactsStream = BoxStream<'static, Result<v1::FileChunk, Status>>;

    async fn artifacts(
        &self,
        _: Request<v1::ArtifactsRequest>,
    ) -> Result<Response<Self::ArtifactsStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_artifacts(
        &self,
        _: Request<v1::FetchArtifactsRequest>,
    ) -> Result<Response<Self::FetchArtifactsStream>, Status> {
        Err(Status::unimplemented(""))
    }

    type WatchStream = BoxStream<'static, Result<v1::WatchJobResponse, Status>>;
    type LogsStream = BoxStream<'static, Result<v1::LogsResponse, Status>>;
    type SearchLogStream = BoxStream<'static, Result<v1::SearchLogResponse, Status>>;
    type UploadStream = BoxStream<'static, Result<v1::UploadResponse, Status>>;

    async fn get(
        &self,
        _: Request<v1::GetJobRequest>,
    ) -> Result<Response<v1::GetJobResponse>, Status> {
        Ok(Response::new(v1::GetJobResponse { job: Some(self.job()) }))
    }

    async fn watch(
        &self,
        request: Request<v1::WatchJobRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        if request.get_ref().job_id != "J" {
            return Err(ApiError::new(Reason::JobNotFound, "no such job", "").into());
        }
        let job = self.job();
        let mut facts = self.facts();
        facts.watches += 1;
        if facts.away || facts.watches.is_multiple_of(2) {
            return Err(broken());
        }
        let update = v1::WatchJobResponse { job: Some(job), waiting: None };
        Ok(Response::new(stream::iter([Ok(update), Err(broken())]).boxed()))
    }

    async fn logs(
        &self,
        request: Request<v1::LogsRequest>,
    ) -> Result<Response<Self::LogsStream>, Status> {
        Ok(Response::new(stream::iter(self.log(request.get_ref())).boxed()))
    }

    async fn upload(
        &self,
        request: Request<Streaming<v1::UploadRequest>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        let mut requests = request.into_inner();
        let open = requests.message().await?.and_then(|request| request.item);
        let Some(upload_request::Item::Open(open)) = open else { return Err(broken()) };
        let durable = {
            let mut facts = self.facts();
            facts.uploads += 1;
            facts.stored.len() as u64
        };
        let facts = Arc::clone(&self.facts);
        let first = v1::UploadResponse { durable, complete: durable == open.size };
        let answers = stream::unfold((requests, 0), move |(mut requests, taken)| {
            let (facts, size) = (Arc::clone(&facts), open.size);
            async move {
                if taken > BREAK_AFTER {
                    return None;
                }
                let answer = match requests.message().await {
                    _ if taken == BREAK_AFTER => Err(broken()),
                    Ok(Some(v1::UploadRequest {
                        item: Some(upload_request::Item::Chunk(chunk)),
                    })) => {
                        let mut facts = facts.lock().unwrap();
                        assert_eq!(chunk.offset, facts.stored.len() as u64, "a gap or a repeat");
                        facts.stored.extend_from_slice(&chunk.data);
                        let durable = facts.stored.len() as u64;
                        Ok(v1::UploadResponse { durable, complete: durable == size })
                    }
                    _ => Err(broken()),
                };
                Some((answer, (requests, taken + 1)))
            }
        });
        Ok(Response::new(stream::iter([Ok(first)]).chain(answers).boxed()))
    }

    async fn search_log(
        &self,
        _: Request<v1::SearchLogRequest>,
    ) -> Result<Response<Self::SearchLogStream>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn set_priority(
        &self,
        _: Request<v1::SetPriorityRequest>,
    ) -> Result<Response<v1::SetPriorityResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn submit(
        &self,
        _: Request<v1::SubmitRequest>,
    ) -> Result<Response<v1::SubmitResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list(
        &self,
        _: Request<v1::ListJobsRequest>,
    ) -> Result<Response<v1::ListJobsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn cancel(
        &self,
        _: Request<v1::CancelJobRequest>,
    ) -> Result<Response<v1::CancelJobResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn retry(
        &self,
        _: Request<v1::RetryJobRequest>,
    ) -> Result<Response<v1::RetryJobResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn find_missing(
        &self,
        _: Request<v1::FindMissingRequest>,
    ) -> Result<Response<v1::FindMissingResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn why(&self, _: Request<v1::WhyRequest>) -> Result<Response<v1::WhyResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}

#[tonic::async_trait]
impl Cluster for Fragile {
    async fn status(
        &self,
        _: Request<v1::ClusterStatusRequest>,
    ) -> Result<Response<v1::ClusterStatusResponse>, Status> {
        let leader_id = u64::from(self.facts.lock().unwrap().led.contains(&self.number));
        Ok(Response::new(v1::ClusterStatusResponse { leader_id, ..Default::default() }))
    }

    async fn members(
        &self,
        _: Request<v1::ListMembersRequest>,
    ) -> Result<Response<v1::ListMembersResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn join(
        &self,
        _: Request<v1::JoinRequest>,
    ) -> Result<Response<v1::JoinResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn remove(
        &self,
        _: Request<v1::RemoveMemberRequest>,
    ) -> Result<Response<v1::RemoveMemberResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn transfer(
        &self,
        _: Request<v1::TransferRequest>,
    ) -> Result<Response<v1::TransferResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    type BackupStream = BoxStream<'static, Result<v1::BackupResponse, Status>>;

    async fn backup(
        &self,
        _: Request<v1::BackupRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        Err(Status::unimplemented(""))
    }
}
