//! `baton jobs show`.

use baton_client::{ClientError, Connection};
use baton_proto::v1::{GetJobRequest, Job};
use clap::Args;
use jiff::Timestamp;

use super::Context;
use crate::{
    asking::Reached,
    connect::ClientArgs,
    output::{self, Format, text, views::JobView},
};

/// The arguments of `jobs show`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  baton jobs show JOB -o json | jq .outcome.exit_code")]
pub(super) struct ShowArgs {
    /// Id of the job
    #[arg(value_name = "JOB")]
    job: String,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: ShowArgs, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(&args.client).await?;
    let job = get(&reached, &args.job).await?;
    let view = JobView::from(&job);
    match context.format {
        Format::Json => output::write_json(&view),
        Format::Text => output::write(text::job(&view, Timestamp::now()).as_bytes()),
    }
}

/// The job as it is now.
///
/// # Errors
/// As [`Reached::ask`].
pub(in crate::commands) async fn get(reached: &Reached, job_id: &str) -> anyhow::Result<Job> {
    let request = GetJobRequest { job_id: job_id.to_owned() };
    let get = async |to: &Connection| {
        let answer = to.jobs().get(request.clone()).await?.into_inner();
        answer.job.ok_or_else(|| ClientError::missing("job"))
    };
    reached.ask(get).await
}
