//! Carries out operations. Each is repeated with its key until it is answered, so that it takes
//! effect once.

use std::time::Duration;

use baton_client::{ClientError, Connection, Patience, retry};
use baton_proto::{
    time::duration_to_proto,
    v1::{
        CancelJobRequest, CordonRunnerRequest, DrainRunnerRequest, LiftQuarantineRequest,
        PauseQueueRequest, RemoveRunnerRequest, ResumeQueueRequest, ResumeRunnerRequest,
        RetryJobRequest, SetPriorityRequest, TransferRequest,
    },
};
use futures::StreamExt as _;
use tokio::sync::mpsc::Sender;

use super::{link::Link, told};
use crate::{
    event::Event,
    operation::{Operation, Task},
};

const PATIENCE: Patience = Patience(Duration::from_secs(30));
/// So many are asked for at once.
const AT_ONCE: usize = 8;

/// Does all of `tasks`, and tells of each how it ended.
pub(super) async fn carry_out(link: Link, tasks: Vec<Task>, events: Sender<Event>) {
    let tasks = futures::stream::iter(tasks).map(|task| async {
        let done =
            retry(PATIENCE, |_| (), || async { call(&link.connection().await?, &task).await });
        let result = done.await.map_err(|error| told(&error));
        Event::Done(task, result)
    });
    let mut done = tasks.buffer_unordered(AT_ONCE);
    while let Some(event) = done.next().await {
        // What was confirmed is done also when nobody hears of it any more.
        let _heard = events.send(event).await;
    }
}

async fn call(connection: &Connection, task: &Task) -> Result<(), ClientError> {
    let idempotency_key = task.idempotency_key.clone();
    let (mut jobs, mut queues) = (connection.jobs(), connection.queues());
    let mut runners = connection.runners();
    match task.operation.clone() {
        Operation::Cancel(job_id) => {
            let reason = "from the console".to_owned();
            jobs.cancel(CancelJobRequest { idempotency_key, job_id, reason }).await?;
        }
        Operation::Retry(job_id) => {
            jobs.retry(RetryJobRequest { idempotency_key, job_id }).await?;
        }
        Operation::Priority(job_id, priority) => {
            jobs.set_priority(SetPriorityRequest { idempotency_key, job_id, priority }).await?;
        }
        Operation::PauseQueue(queue) => {
            queues.pause(PauseQueueRequest { idempotency_key, queue: Some(queue) }).await?;
        }
        Operation::ResumeQueue(queue) => {
            queues.resume(ResumeQueueRequest { idempotency_key, queue: Some(queue) }).await?;
        }
        Operation::Cordon(runner) => {
            runners.cordon(CordonRunnerRequest { idempotency_key, runner }).await?;
        }
        Operation::Drain(runner, deadline, then) => {
            let deadline = deadline.map(duration_to_proto);
            let then = then.into();
            runners.drain(DrainRunnerRequest { idempotency_key, runner, deadline, then }).await?;
        }
        Operation::ResumeRunner(runner) => {
            runners.resume(ResumeRunnerRequest { idempotency_key, runner }).await?;
        }
        Operation::Lift(runner) => {
            runners.lift(LiftQuarantineRequest { idempotency_key, runner }).await?;
        }
        Operation::RemoveRunner(runner) => {
            runners.remove(RemoveRunnerRequest { idempotency_key, runner }).await?;
        }
        Operation::Transfer(node_id) => {
            connection.cluster().transfer(TransferRequest { node_id }).await?;
        }
    }
    Ok(())
}
