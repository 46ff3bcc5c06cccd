//! `baton jobs cancel`.

use baton_client::ClientError;
use baton_proto::v1::CancelJobRequest;
use clap::Args;

use super::Context;
use crate::{
    connect::ClientArgs,
    output::{
        self, Format,
        views::{JobView, job_state},
    },
    random,
};

const EXAMPLE: &str = "\
Example:
  baton jobs cancel JOB --reason 'wrong branch'

A queued job ends at once. A running one ends when its runner has proof that every
process is gone; `baton jobs wait JOB` waits for that.";

/// The arguments of `jobs cancel`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct CancelArgs {
    /// Id of the job
    #[arg(value_name = "JOB")]
    job: String,
    /// Kept in the job's record
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: CancelArgs, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(&args.client).await?;
    let request = CancelJobRequest {
        idempotency_key: random::idempotency_key()?,
        job_id: args.job,
        reason: args.reason,
    };
    let job = reached
        .keep_asking(async |to| {
            let answer = to.jobs().cancel(request.clone()).await?.into_inner();
            answer.job.ok_or_else(|| ClientError::missing("job"))
        })
        .await?;
    match context.format {
        Format::Json => output::write_json(&JobView::from(&job)),
        Format::Text if job.outcome.is_some() => {
            output::write(format!("job {} is {}\n", job.id, job_state(job.state())).as_bytes())
        }
        Format::Text => output::write(format!("job {} is being cancelled\n", job.id).as_bytes()),
    }
}
