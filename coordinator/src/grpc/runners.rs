//! The Runners service.

use baton_proto::{
    error::{ApiError, Reason},
    time::duration_from_proto,
    v1::{self, runners_server},
};
use baton_state::{JobSpec, Lease};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    Answers, Services, job_id, jobs,
    send_log::{self, LogStore},
    upload,
};
use crate::{
    convert::{self, invalid},
    errors::{from_propose, internal},
    files::{Digest, FileName},
    jobs::Jobs,
    runners,
};

#[tonic::async_trait]
impl runners_server::Runners for Services {
    type SessionStream = Answers<v1::SessionResponse>;

    async fn session(
        &self,
        request: Request<Streaming<v1::SessionRequest>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let (outbound, answers) = mpsc::unbounded_channel();
        let (dispatch, stop) = (self.dispatch.clone(), self.stop.clone());
        let inbound = request.into_inner();
        self.tasks.spawn(async move {
            if let Err(error) = dispatch.serve_session(inbound, outbound.clone(), stop).await {
                // The runner may have left.
                let _ = outbound.send(Err(error));
            }
        });
        let answers = UnboundedReceiverStream::new(answers);
        Ok(Response::new(answers.map(|answer| answer.map_err(Status::from)).boxed()))
    }

    type SendLogStream = Answers<v1::SendLogResponse>;

    async fn send_log(
        &self,
        request: Request<Streaming<v1::SendLogRequest>>,
    ) -> Result<Response<Self::SendLogStream>, Status> {
        let Jobs { raft, files, replication, .. } = self.jobs.clone();
        let store = LogStore { raft, files, replication };
        let inbound = request.into_inner();
        Ok(Response::new(self.stream(|answers| send_log::send_log(store, inbound, answers))))
    }

    type FetchSourceStream = Answers<v1::FileChunk>;

    async fn fetch_source(
        &self,
        request: Request<v1::FetchSourceRequest>,
    ) -> Result<Response<Self::FetchSourceStream>, Status> {
        let request = request.into_inner();
        let (job, lease) = (job_id(&request.job_id)?, Lease(request.lease));
        send_log::check_lease(&self.jobs.raft, job, lease)?;
        let spec = self.jobs.get(job).await?.spec;
        let digest = self.wanted_content(&spec, request.input, &request.chunk).await?;
        Ok(Response::new(self.content(digest, request.offset).await?))
    }

    async fn find_missing(
        &self,
        request: Request<v1::FindMissingContentRequest>,
    ) -> Result<Response<v1::FindMissingResponse>, Status> {
        let request = request.into_inner();
        let (job, lease) = (job_id(&request.job_id)?, Lease(request.lease));
        send_log::check_lease(&self.jobs.raft, job, lease)?;
        let missing = self.missing(request.request.unwrap_or_default()).await?;
        Ok(Response::new(missing))
    }

    type SendContentStream = Answers<v1::UploadResponse>;

    async fn send_content(
        &self,
        request: Request<Streaming<v1::SendContentRequest>>,
    ) -> Result<Response<Self::SendContentStream>, Status> {
        let (jobs, limit) = (self.jobs.clone(), self.archive_limit);
        let inbound = request.into_inner();
        let take = |answers| upload::send_content(jobs, limit, inbound, answers);
        Ok(Response::new(self.stream(take)))
    }

    async fn list(
        &self,
        _request: Request<v1::ListRunnersRequest>,
    ) -> Result<Response<v1::ListRunnersResponse>, Status> {
        self.jobs.raft.read_barrier().await.map_err(from_propose)?;
        let mut runners: Vec<_> = {
            let state = self.jobs.raft.state();
            state.runners().values().map(|runner| self.dispatch.shown(&state, runner)).collect()
        };
        runners.sort_by(|a, b| (&a.name, &a.id).cmp(&(&b.name, &b.id)));
        Ok(Response::new(v1::ListRunnersResponse { runners }))
    }

    async fn get(
        &self,
        request: Request<v1::GetRunnerRequest>,
    ) -> Result<Response<v1::GetRunnerResponse>, Status> {
        self.jobs.raft.read_barrier().await.map_err(from_propose)?;
        let state = self.jobs.raft.state();
        let runner = self.dispatch.shown(&state, runners::find(&state, &request.get_ref().runner)?);
        Ok(Response::new(v1::GetRunnerResponse { runner: Some(runner) }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveRunnerRequest>,
    ) -> Result<Response<v1::RemoveRunnerResponse>, Status> {
        let caller = jobs::caller("remove runner", &request, |body| &mut body.idempotency_key)?;
        let runner = self.jobs.remove_runner(&caller, &request.get_ref().runner).await?;
        Ok(Response::new(v1::RemoveRunnerResponse { runner_id: runner.0 }))
    }

    async fn cordon(
        &self,
        request: Request<v1::CordonRunnerRequest>,
    ) -> Result<Response<v1::CordonRunnerResponse>, Status> {
        let caller = jobs::caller("cordon runner", &request, |body| &mut body.idempotency_key)?;
        let runner = self.jobs.cordon_runner(&caller, &request.get_ref().runner).await?;
        Ok(Response::new(v1::CordonRunnerResponse { runner_id: runner.0 }))
    }

    async fn drain(
        &self,
        request: Request<v1::DrainRunnerRequest>,
    ) -> Result<Response<v1::DrainRunnerResponse>, Status> {
        let caller = jobs::caller("drain runner", &request, |body| &mut body.idempotency_key)?;
        let body = request.into_inner();
        let within = body.deadline.as_ref().map(|deadline| {
            let within = duration_from_proto(deadline);
            within.ok_or_else(|| convert::invalid("deadline", "must not be negative"))
        });
        let then = convert::at_deadline(body.then)?;
        let within = within.transpose()?;
        let runner = self.jobs.drain_runner(&caller, &body.runner, within, then).await?;
        Ok(Response::new(v1::DrainRunnerResponse { runner_id: runner.0 }))
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeRunnerRequest>,
    ) -> Result<Response<v1::ResumeRunnerResponse>, Status> {
        let caller = jobs::caller("resume runner", &request, |body| &mut body.idempotency_key)?;
        let runner = self.jobs.resume_runner(&caller, &request.get_ref().runner).await?;
        Ok(Response::new(v1::ResumeRunnerResponse { runner_id: runner.0 }))
    }

    async fn set_labels(
        &self,
        request: Request<v1::SetRunnerLabelsRequest>,
    ) -> Result<Response<v1::SetRunnerLabelsResponse>, Status> {
        let caller = jobs::caller("set labels", &request, |body| &mut body.idempotency_key)?;
        let body = request.into_inner();
        let (grant, hide) = (convert::labels(&body.grant)?, convert::labels(&body.hide)?);
        let runner = self.jobs.set_runner_labels(&caller, &body.runner, grant, hide).await?;
        Ok(Response::new(v1::SetRunnerLabelsResponse { runner_id: runner.0 }))
    }

    async fn checks(
        &self,
        request: Request<v1::ListChecksRequest>,
    ) -> Result<Response<v1::ListChecksResponse>, Status> {
        self.jobs.raft.read_barrier().await.map_err(from_propose)?;
        let runner = {
            let state = self.jobs.raft.state();
            runners::find(&state, &request.get_ref().runner)?.facts.id.clone()
        };
        let checks = self.dispatch.checks(&runner);
        Ok(Response::new(v1::ListChecksResponse { checks }))
    }

    async fn lift(
        &self,
        request: Request<v1::LiftQuarantineRequest>,
    ) -> Result<Response<v1::LiftQuarantineResponse>, Status> {
        let caller = jobs::caller("lift quarantine", &request, |body| &mut body.idempotency_key)?;
        let is_connected = |runner: &_| self.dispatch.has_session(runner);
        let wanted = &request.get_ref().runner;
        let runner = self.jobs.lift_quarantine(&caller, wanted, is_connected).await?;
        Ok(Response::new(v1::LiftQuarantineResponse { runner_id: runner.0 }))
    }
}

impl Services {
    /// What a runner may fetch for a job: its archive, the manifest of its tree, or of one of
    /// its inputs when `input` is not 0, or a chunk of that.
    async fn wanted_content(
        &self,
        spec: &JobSpec,
        input: u32,
        chunk: &str,
    ) -> Result<Digest, ApiError> {
        let refused = |message: &str| {
            ApiError::new(Reason::InvalidArgument, message, "fetch what the job brings, or nothing")
        };
        let inputs = || spec.inputs.get((input as usize).checked_sub(1)?);
        let (source, is_tree) = match input {
            0 => {
                let archive = spec.archive().map(|archive| &archive.digest);
                (archive.or_else(|| spec.tree().map(|it| &it.digest)), spec.tree().is_some())
            }
            _ => (inputs().map(|input| &input.tree.digest), true),
        };
        let source = source.ok_or_else(|| refused("the job brings nothing that is stored"))?;
        let source: Digest = source.parse().map_err(internal)?;
        if chunk.is_empty() {
            return Ok(source);
        }
        let chunk: Digest = chunk.parse().map_err(|error| invalid("chunk", error))?;
        self.jobs.replication.ensure(FileName::Upload { digest: source }).await?;
        let content = if is_tree { self.jobs.contents().content(source).await? } else { None };
        match content {
            Some(content) if content.digests().any(|named| named == chunk) => Ok(chunk),
            Some(_) | None => Err(refused("the job brings no such chunk")),
        }
    }
}
