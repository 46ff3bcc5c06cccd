//! `baton jobs why`.

use baton_proto::v1::WhyRequest;
use clap::Args;

use super::Context;
use crate::{
    connect::ClientArgs,
    output::{self, Format, table::printable, views::WhyView},
};

/// The arguments of `jobs why`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  baton jobs why JOB")]
pub(super) struct WhyArgs {
    /// Id of the job
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: WhyArgs, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(&args.client).await?;
    let request = WhyRequest { job_id: args.job.clone() };
    let answer =
        reached.ask(async |to| Ok(to.jobs().why(request.clone()).await?.into_inner())).await?;
    match context.format {
        Format::Text => output::write(format!("{}\n", printable(&answer.message)).as_bytes()),
        Format::Json => output::write_json(&WhyView {
            job_id: args.job,
            message: answer.message,
            waiting: answer.waiting.map(Into::into),
        }),
    }
}
