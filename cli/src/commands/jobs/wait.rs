//! `baton jobs wait`: come back to a job that goes on, or that has ended.

use clap::Args;

use super::Context;
use crate::{
    commands::run::WaitOptions,
    connect::ClientArgs,
    ending::{Conclusion, Leaving, conclude, no_job},
    exit,
    interrupts::Interrupts,
};

const EXAMPLE: &str = "\
Examples:
  baton jobs wait JOB                    its output from the start, then its exit code
  baton jobs wait JOB --offset 1048576   what is left after the first MiB, as `run` says
  baton jobs wait JOB --no-logs          only its exit code";

/// The arguments of `jobs wait`.
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLE}\n\n{}", exit::HELP))]
pub(super) struct WaitArgs {
    /// Id of the job
    #[arg(value_name = "JOB")]
    job: String,
    /// Show the output from this attempt on [default: the newest]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    attempt: u32,
    /// Leave out so many bytes of that attempt's output
    #[arg(long, value_name = "BYTES", default_value_t = 0)]
    offset: u64,
    /// Show no output
    #[arg(long, conflicts_with_all = ["offset", "attempt"])]
    no_logs: bool,
    #[command(flatten)]
    wait: WaitOptions,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) async fn run(args: WaitArgs, context: &Context) -> anyhow::Result<u8> {
    args.wait.check_result_file()?;
    let end = match follow(&args, context).await {
        Ok(end) => end,
        Err(error) => no_job(&error),
    };
    Ok(context.tell(&end, args.wait.result_file.as_deref()))
}

async fn follow(args: &WaitArgs, context: &Context) -> anyhow::Result<Conclusion> {
    let cluster = args.client.resolve(&context.environment)?;
    let connection = cluster.connect(context.messages).await?;
    let mut interrupts = Interrupts::catch()?;
    let from = (!args.no_logs).then_some((args.attempt, args.offset));
    let follow = args.wait.follow(args.job.clone(), from, &cluster, context)?;
    let followed = follow.run(&connection, &mut interrupts).await?;
    let leaving = Leaving { allowed: args.wait.allow_unfinished, cluster_stays: true };
    Ok(conclude(followed, &args.job, leaving))
}
