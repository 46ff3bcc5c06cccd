//! `baton runners`: the fleet's runners.

mod health;
mod scheduling;

use baton_client::ClientError;
use baton_proto::v1::{GetRunnerRequest, ListRunnersRequest, RemoveRunnerRequest};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::Context;
use crate::{
    connect::ClientArgs,
    output::{
        self, Format, text,
        views::{ChangedView, RunnerView, RunnersView},
    },
    random,
};

/// The arguments of `runners`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  baton runners drain build-1 --wait")]
pub(crate) struct RunnersArgs {
    #[command(subcommand)]
    command: RunnersCommand,
}

#[derive(Debug, Subcommand)]
enum RunnersCommand {
    /// What a runner found when it looked at itself in the last hour
    #[command(after_help = health::CHECKS_EXAMPLE)]
    Checks(scheduling::OneRunner),
    /// Give a runner no new jobs
    #[command(after_help = scheduling::CORDON_EXAMPLE)]
    Cordon(scheduling::OneRunner),
    /// Empty a runner
    #[command(after_help = scheduling::DRAIN_EXAMPLE)]
    Drain(scheduling::DrainArgs),
    /// Grant labels to a runner, or hide some of its own
    #[command(after_help = scheduling::LABEL_EXAMPLE)]
    Label(scheduling::LabelArgs),
    /// Let executors that failed take jobs again
    #[command(after_help = health::LIFT_EXAMPLE)]
    Lift(scheduling::OneRunner),
    /// All runners, by name
    #[command(after_help = "Example:\n  baton runners list -o json | jq '.runners[].name'")]
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Forget a runner that is gone
    #[command(after_help = REMOVE_EXAMPLE)]
    Remove {
        /// Id or name of the runner
        #[arg(value_name = "RUNNER")]
        runner: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Give jobs to a runner again
    #[command(after_help = scheduling::RESUME_EXAMPLE)]
    Resume(scheduling::OneRunner),
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

const REMOVE_EXAMPLE: &str = "\
Example:
  baton runners remove build-1

Only a runner that is unreachable and holds no jobs can be removed: stop it first. One
that comes back is registered anew. Runners that are away for longer than the
coordinator's retention_age are removed without being asked for.";

pub(super) async fn run(args: RunnersArgs, context: &Context) -> anyhow::Result<u8> {
    match args.command {
        RunnersCommand::Checks(args) => health::checks(args, context).await?,
        RunnersCommand::Lift(args) => health::lift(args, context).await?,
        RunnersCommand::Cordon(args) => scheduling::cordon(args, context).await?,
        RunnersCommand::Drain(args) => scheduling::drain(args, context).await?,
        RunnersCommand::Label(args) => scheduling::label(args, context).await?,
        RunnersCommand::Resume(args) => scheduling::resume(args, context).await?,
        RunnersCommand::List { client } => list(&client, context).await?,
        RunnersCommand::Remove { runner, client } => remove(runner, &client, context).await?,
        RunnersCommand::Show { runner, client } => show(runner, &client, context).await?,
    }
    Ok(0)
}

async fn list(client: &ClientArgs, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(client).await?;
    let answer = reached
        .ask(async |to| Ok(to.runners().list(ListRunnersRequest {}).await?.into_inner()))
        .await?;
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
    let reached = context.connect(client).await?;
    let request = GetRunnerRequest { runner };
    let runner = reached
        .ask(async |to| {
            let answer = to.runners().get(request.clone()).await?.into_inner();
            answer.runner.ok_or_else(|| ClientError::missing("runner"))
        })
        .await?;
    let view = RunnerView::from(&runner);
    match context.format {
        Format::Json => output::write_json(&view),
        Format::Text => {
            let style = output::style(&context.environment);
            output::write(text::runner(&view, Timestamp::now(), style).as_bytes())
        }
    }
}

async fn remove(runner: String, client: &ClientArgs, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(client).await?;
    let idempotency_key = random::idempotency_key()?;
    let request = RemoveRunnerRequest { idempotency_key, runner: runner.clone() };
    let answer = reached
        .keep_asking(async |to| Ok(to.runners().remove(request.clone()).await?.into_inner()))
        .await?;
    let id = answer.runner_id;
    match context.format {
        Format::Json => output::write_json(&ChangedView { id }),
        Format::Text => output::write(format!("runner {runner} is removed\n").as_bytes()),
    }
}
