//! `baton runners`: the fleet's runners.

use baton_client::ClientError;
use baton_proto::v1::{GetRunnerRequest, ListRunnersRequest};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::Context;
use crate::{
    connect::ClientArgs,
    output::{
        self, Format, text,
        views::{RunnerView, RunnersView},
    },
};

/// The arguments of `runners`.
#[derive(Args, Debug)]
pub(crate) struct RunnersArgs {
    #[command(subcommand)]
    command: RunnersCommand,
}

#[derive(Debug, Subcommand)]
enum RunnersCommand {
    /// All runners, by name
    #[command(after_help = "Example:\n  baton runners list -o json | jq '.runners[].name'")]
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// One runner and the jobs it holds
    #[command(after_help = "Example:\n  baton runners show build-1")]
    Show {
        /// Id or name of the runner
        #[arg(value_name = "RUNNER")]
        runner: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

pub(super) async fn run(args: RunnersArgs, context: &Context) -> anyhow::Result<u8> {
    match args.command {
        RunnersCommand::List { client } => list(&client, context).await?,
        RunnersCommand::Show { runner, client } => show(runner, &client, context).await?,
    }
    Ok(0)
}

async fn list(client: &ClientArgs, context: &Context) -> anyhow::Result<()> {
    let (cluster, connection) = context.connect(client).await?;
    let call =
        || async { Ok(connection.runners().list(ListRunnersRequest {}).await?.into_inner()) };
    let answer = baton_client::retry(cluster.patience(), |_| (), call).await?;
    let runners: Vec<_> = answer.runners.iter().map(RunnerView::from).collect();
    match context.format {
        Format::Json => output::write_json(&RunnersView { runners }),
        Format::Text => {
            let style = output::style(&context.environment);
            output::write(text::runners(&runners, Timestamp::now(), style).as_bytes())
        }
    }
}

async fn show(runner: String, client: &ClientArgs, context: &Context) -> anyhow::Result<()> {
    let (cluster, connection) = context.connect(client).await?;
    let request = GetRunnerRequest { runner };
    let call = || async {
        let answer = connection.runners().get(request.clone()).await?.into_inner();
        answer.runner.ok_or_else(|| ClientError::missing("runner"))
    };
    let runner = baton_client::retry(cluster.patience(), |_| (), call).await?;
    let view = RunnerView::from(&runner);
    match context.format {
        Format::Json => output::write_json(&view),
        Format::Text => output::write(text::runner(&view, Timestamp::now()).as_bytes()),
    }
}
