//! `baton jobs priority`.

use baton_client::ClientError;
use baton_proto::v1::SetPriorityRequest;
use clap::Args;

use super::Context;
use crate::{
    connect::ClientArgs,
    output::{self, Format, views::JobView},
    random,
};

const EXAMPLE: &str = "\
Examples:
  baton jobs priority JOB 10
  baton jobs priority JOB -5

A job that runs goes on; its new priority counts should it wait again. A job that has
ended cannot be changed.";

/// The arguments of `jobs priority`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(super) struct PriorityArgs {
    /// Id of the job
    #[arg(value_name = "JOB")]
    job: String,
    /// Higher starts first, from -100 to 100
    #[arg(
        value_name = "PRIORITY",
        allow_negative_numbers = true,
        value_parser = clap::value_parser!(i32).range(-100..=100)
    )]
    priority: i32,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: PriorityArgs, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(&args.client).await?;
    let request = SetPriorityRequest {
        idempotency_key: random::idempotency_key()?,
        job_id: args.job,
        priority: args.priority,
    };
    let job = reached
        .keep_asking(async |to| {
            let answer = to.jobs().set_priority(request.clone()).await?.into_inner();
            answer.job.ok_or_else(|| ClientError::missing("job"))
        })
        .await?;
    match context.format {
        Format::Json => output::write_json(&JobView::from(&job)),
        Format::Text => {
            let text = format!("job {} has priority {}\n", job.id, args.priority);
            output::write(text.as_bytes())
        }
    }
}
