//! `baton jobs show`.

use baton_client::{ClientError, Connection, Patience};
use baton_proto::v1::{GetJobRequest, Job};
use clap::Args;
use jiff::Timestamp;

use super::Context;
use crate::{
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
    let (cluster, connection) = context.connect(&args.client).await?;
    let job = get(&connection, cluster.patience(), &args.job).await?;
    let view = JobView::from(&job);
    match context.format {
        Format::Json => output::write_json(&view),
        Format::Text => output::write(text::job(&view, Timestamp::now()).as_bytes()),
    }
}

/// The job as it is now.
async fn get(
    connection: &Connection,
    patience: Patience,
    job_id: &str,
) -> Result<Job, ClientError> {
    let request = GetJobRequest { job_id: job_id.to_owned() };
    let call = || async {
        let answer = connection.jobs().get(request.clone()).await?.into_inner();
        answer.job.ok_or_else(|| ClientError::missing("job"))
    };
    baton_client::retry(patience, |_| (), call).await
}
