//! `baton submit`: submit and print the id.

use clap::Args;

use super::Context;
use crate::{
    connect::ClientArgs,
    interrupts::Interrupts,
    job_options::JobOptions,
    output::{self, Format, views::SubmittedView},
    submission::Submission,
};

const EXAMPLE: &str = "\
Example:
  job=$(baton submit --source . -- make test)
  baton jobs wait \"$job\"";

/// The arguments of `submit`.
#[derive(Args, Debug)]
#[command(after_help = EXAMPLE)]
pub(crate) struct SubmitArgs {
    #[command(flatten)]
    job: JobOptions,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: SubmitArgs, context: &Context) -> anyhow::Result<u8> {
    let spec = args.job.spec(&context.environment)?;
    let reached = context.connect(&args.client).await?;
    let submission = Submission {
        spec,
        source: args.job.source()?,
        idempotency_key: args.job.idempotency_key,
        patience: reached.cluster.patience(),
        messages: context.messages,
    };
    let mut interrupts = Interrupts::catch()?;
    let job = submission.submit(&reached.connection, &mut interrupts).await?.job;
    match context.format {
        Format::Text => output::write(format!("{}\n", job.id).as_bytes())?,
        Format::Json => output::write_json(&SubmittedView::from(&job))?,
    }
    Ok(0)
}
