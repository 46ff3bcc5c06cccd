//! `baton jobs retry`.

use baton_client::ClientError;
use baton_proto::v1::RetryJobRequest;
use clap::Args;

use super::Context;
use crate::{
    connect::ClientArgs,
    job_options::idempotency_key,
    output::{self, Format, views::SubmittedView},
    random,
};

/// The arguments of `jobs retry`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  baton jobs wait \"$(baton jobs retry JOB)\"")]
pub(super) struct RetryArgs {
    /// Id of the finished job
    #[arg(value_name = "JOB")]
    job: String,
    /// The same key never makes a second job [default: random]
    #[arg(long, value_name = "KEY", value_parser = idempotency_key)]
    idempotency_key: Option<String>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: RetryArgs, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(&args.client).await?;
    let key = match args.idempotency_key {
        Some(key) => key,
        None => random::idempotency_key()?,
    };
    let request = RetryJobRequest { idempotency_key: key, job_id: args.job };
    let job = reached
        .keep_asking(async |to| {
            let answer = to.jobs().retry(request.clone()).await?.into_inner();
            answer.job.ok_or_else(|| ClientError::missing("job"))
        })
        .await?;
    match context.format {
        Format::Text => output::write(format!("{}\n", job.id).as_bytes()),
        Format::Json => output::write_json(&SubmittedView::from(&job)),
    }
}
