//! The Queues service.

use baton_proto::v1::{self, queues_server};
use tonic::{Request, Response, Status};

use super::{Services, jobs};
use crate::{
    convert::{queue_name, queues_to_proto},
    errors::from_propose,
};

#[tonic::async_trait]
impl queues_server::Queues for Services {
    async fn list(
        &self,
        _request: Request<v1::ListQueuesRequest>,
    ) -> Result<Response<v1::ListQueuesResponse>, Status> {
        self.jobs.raft.read_barrier().await.map_err(from_propose)?;
        Ok(Response::new(queues_to_proto(self.jobs.queues())))
    }

    async fn pause(
        &self,
        request: Request<v1::PauseQueueRequest>,
    ) -> Result<Response<v1::PauseQueueResponse>, Status> {
        let caller = jobs::caller("pause queue", &request, |body| &mut body.idempotency_key)?;
        self.jobs.pause_queue(&caller, queue_name(request.into_inner().queue)?).await?;
        Ok(Response::new(v1::PauseQueueResponse {}))
    }

    async fn resume(
        &self,
        request: Request<v1::ResumeQueueRequest>,
    ) -> Result<Response<v1::ResumeQueueResponse>, Status> {
        let caller = jobs::caller("resume queue", &request, |body| &mut body.idempotency_key)?;
        self.jobs.resume_queue(&caller, queue_name(request.into_inner().queue)?).await?;
        Ok(Response::new(v1::ResumeQueueResponse {}))
    }
}
