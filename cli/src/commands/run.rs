//! `baton run`: submit, follow, exit with the job's own code.

use std::{path::PathBuf, time::Duration};

use baton_proto::v1::LogStream;
use clap::{Args, ValueEnum};

use super::Context;
use crate::{
    connect::{ClientArgs, Cluster},
    ending::{Conclusion, Leaving, conclude, no_job},
    exit::{self, UsageError},
    follow::{Follow, LogChoice, deadline},
    groups::{Group, Provider},
    interrupts::Interrupts,
    job_options::{JOB_FILE, Job, JobOptions},
    output::{self, Format, result_file},
    quantities::duration,
    random,
    submission::Submission,
};

const EXAMPLE: &str = "\
Examples:
  baton run -- sh -c 'exit 7'
  baton run --source . --label os=linux --timeout 10m -- cargo test
  baton run --env CI --result-file result.json -- ./build.sh
  baton run --source git:https://example.org/app.git#main -- make test
  baton run -f job.yaml --timeout 5m";

/// The arguments of `run`.
#[derive(Args, Debug)]
#[command(after_help = format!("{EXAMPLE}\n\n{JOB_FILE}\n\n{}", exit::HELP))]
pub(crate) struct RunArgs {
    #[command(flatten)]
    job: JobOptions,
    #[command(flatten)]
    wait: WaitOptions,
    #[command(flatten)]
    client: ClientArgs,
}

/// The options of the commands that follow a job to its end.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Waiting")]
pub(crate) struct WaitOptions {
    /// Stop waiting after this and exit with 123; the job goes on
    #[arg(long, value_name = "TIME", default_value = "25m", value_parser = duration)]
    wait_timeout: Duration,
    /// Exit with 0 instead of 123 when the job goes on
    #[arg(long)]
    pub(crate) allow_unfinished: bool,
    /// Ctrl-C leaves and the job goes on, instead of cancelling it
    #[arg(long)]
    detach_on_interrupt: bool,
    /// Write how it ended to this file, as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) result_file: Option<PathBuf>,
    /// Which of the job's streams to show, each on the stream of the same name here
    #[arg(long, value_enum, value_name = "STREAM", default_value = "both")]
    stream: Streams,
    /// Do not fold the output in the log of GitHub Actions, GitLab CI or Buildkite. Folded,
    /// both of the job's streams go to standard output, with the marks of the CI system;
    /// a stream that is redirected to a file is reason enough not to fold
    #[arg(long)]
    no_group: bool,
    /// Let GitHub Actions obey workflow commands in the job's output
    #[arg(long)]
    allow_workflow_commands: bool,
}

/// Which of a job's streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Streams {
    /// What it wrote to its standard output
    Stdout,
    /// What it wrote to its standard error
    Stderr,
    /// Each to the stream of the same name here
    Both,
}

impl From<Streams> for LogStream {
    fn from(streams: Streams) -> Self {
        match streams {
            Streams::Stdout => Self::Stdout,
            Streams::Stderr => Self::Stderr,
            Streams::Both => Self::Unspecified,
        }
    }
}

impl Default for WaitOptions {
    fn default() -> Self {
        Self {
            wait_timeout: Duration::from_secs(25 * 60),
            allow_unfinished: false,
            detach_on_interrupt: false,
            result_file: None,
            stream: Streams::Both,
            no_group: false,
            allow_workflow_commands: false,
        }
    }
}

impl WaitOptions {
    /// Makes sure that the result can be written once there is one.
    ///
    /// # Errors
    /// [`UsageError`] with the path.
    pub(crate) fn check_result_file(&self) -> anyhow::Result<()> {
        let Some(path) = &self.result_file else { return Ok(()) };
        result_file::check(path).map_err(|error| {
            UsageError(format!("--result-file {}: {error}", path.display())).into()
        })
    }

    /// How to follow `job_id`: its output `from` an attempt (0 for the newest) and
    /// an offset in it, or none of it.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub(crate) fn follow(
        &self,
        job_id: String,
        from: Option<(u32, u64)>,
        cluster: &Cluster,
        context: &Context,
    ) -> anyhow::Result<Follow> {
        // With JSON nothing of the job goes to standard output.
        let may_fold = context.format == Format::Json || output::streams_lead_alike();
        let provider = Provider::detect(&context.environment);
        let provider = provider.filter(|_| may_fold && !self.no_group);
        let group = match provider {
            Some(provider) => {
                Some(Group::new(provider, random::token()?, self.allow_workflow_commands))
            }
            None => None,
        };
        Ok(Follow {
            job_id,
            log: from.map(|(attempt, offset)| {
                let stream = self.stream.into();
                LogChoice { attempt, stream, offset }
            }),
            deadline: deadline(self.wait_timeout),
            interrupted: None,
            detach_on_interrupt: self.detach_on_interrupt,
            patience: cluster.patience(),
            group,
            format: context.format,
            messages: context.messages,
        })
    }
}

pub(super) async fn run(args: RunArgs, context: &Context) -> anyhow::Result<u8> {
    args.wait.check_result_file()?;
    let end = match run_job(&args, context).await {
        Ok(end) => end,
        Err(error) => no_job(&error),
    };
    Ok(context.tell(&end, args.wait.result_file.as_deref()))
}

async fn run_job(args: &RunArgs, context: &Context) -> anyhow::Result<Conclusion> {
    let Job { spec, source, idempotency_key } = args.job.clone().job(&context.environment)?;
    let cluster = args.client.resolve(&context.environment)?;
    let submission = Submission {
        spec,
        source,
        idempotency_key,
        patience: cluster.patience(),
        messages: context.messages,
    };
    submit_and_follow(submission, &args.wait, &cluster, context).await
}

/// Submits and follows to the end.
///
/// # Errors
/// Why there is no job.
pub(crate) async fn submit_and_follow(
    submission: Submission,
    wait: &WaitOptions,
    cluster: &Cluster,
    context: &Context,
) -> anyhow::Result<Conclusion> {
    submit_and_follow_telling(submission, wait, cluster, context, |_| ()).await
}

/// The same; `told` hears the job's id as soon as there is one.
///
/// # Errors
/// Why there is no job.
pub(crate) async fn submit_and_follow_telling(
    submission: Submission,
    wait: &WaitOptions,
    cluster: &Cluster,
    context: &Context,
    told: impl FnOnce(&str),
) -> anyhow::Result<Conclusion> {
    let connection = cluster.connect(context.messages).await?;
    let mut interrupts = Interrupts::catch()?;
    let submitted = submission.submit(&connection, &mut interrupts).await?;
    let job_id = submitted.job.id;
    told(&job_id);
    if cluster.is_own() {
        context.messages.note(&format!("job {job_id}"));
    } else {
        context.messages.note(&format!("job {job_id}; come back with: baton jobs wait {job_id}"));
    }

    let mut follow = wait.follow(job_id.clone(), Some((0, 0)), cluster, context)?;
    follow.interrupted = submitted.interrupted;
    let followed = follow.run(&connection, &mut interrupts).await?;
    let leaving = Leaving { allowed: wait.allow_unfinished, cluster_stays: !cluster.is_own() };
    Ok(conclude(followed, &job_id, leaving))
}
