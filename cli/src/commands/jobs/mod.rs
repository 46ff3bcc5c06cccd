//! `baton jobs`: what can be done with jobs that are there.

mod artifacts;
mod cancel;
mod list;
mod priority;
mod retry;
mod show;
mod wait;
mod why;

use clap::{Args, Subcommand};

pub(super) use self::{list::parse_time, show::get};
use super::Context;

/// The arguments of `jobs`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  baton jobs list --state failed --after 1d")]
pub(crate) struct JobsArgs {
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(Debug, Subcommand)]
enum JobsCommand {
    /// Jobs by filter, newest first
    List(Box<list::ListArgs>),
    /// Everything about one job
    Show(show::ShowArgs),
    /// What a job left: list it, or download it
    Artifacts(artifacts::ArtifactsArgs),
    /// Come back to a job: show its output and exit as `run` would
    Wait(Box<wait::WaitArgs>),
    /// Ask to stop a job
    Cancel(cancel::CancelArgs),
    /// Change the priority of a job that has not ended
    Priority(priority::PriorityArgs),
    /// Submit a finished job again; also replays a dead letter
    Retry(retry::RetryArgs),
    /// Why is this job waiting?
    Why(why::WhyArgs),
}

pub(super) async fn run(args: JobsArgs, context: &Context) -> anyhow::Result<u8> {
    match args.command {
        JobsCommand::List(args) => list::run(*args, context).await.map(|()| 0),
        JobsCommand::Show(args) => show::run(args, context).await.map(|()| 0),
        JobsCommand::Artifacts(args) => artifacts::run(args, context).await.map(|()| 0),
        JobsCommand::Wait(args) => wait::run(*args, context).await,
        JobsCommand::Cancel(args) => cancel::run(args, context).await.map(|()| 0),
        JobsCommand::Priority(args) => priority::run(args, context).await.map(|()| 0),
        JobsCommand::Retry(args) => retry::run(args, context).await.map(|()| 0),
        JobsCommand::Why(args) => why::run(args, context).await.map(|()| 0),
    }
}
