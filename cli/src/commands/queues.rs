//! `baton queues`: jobs that wait, by project and by what they require.

use baton_proto::{
    DEFAULT_PROJECT,
    v1::{ListQueuesRequest, PauseQueueRequest, QueueName, ResumeQueueRequest},
};
use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::Context;
use crate::{
    connect::ClientArgs,
    output::{
        self, Format, text,
        views::{QueueNameView, QueueView, QueuesView},
    },
    random,
};

/// The arguments of `queues`.
#[derive(Args, Debug)]
#[command(after_help = "Example:\n  baton queues pause nightly")]
pub(crate) struct QueuesArgs {
    #[command(subcommand)]
    command: QueuesCommand,
}

#[derive(Debug, Subcommand)]
enum QueuesCommand {
    /// Queues that have jobs or are paused: the paused ones first, then the longest
    #[command(after_help = "Example:\n  baton queues list -o json | jq '.queues[].queued'")]
    List {
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Keep the jobs of a queue waiting; those that have a runner go on
    #[command(after_help = PAUSE_EXAMPLE)]
    Pause(OneQueue),
    /// Give jobs of a queue to runners again
    #[command(after_help = RESUME_EXAMPLE)]
    Resume(OneQueue),
}

/// Which queue.
#[derive(Args, Debug)]
struct OneQueue {
    /// Whose jobs
    #[arg(value_name = "PROJECT", default_value = DEFAULT_PROJECT)]
    project: String,
    /// A label that its jobs require; give all of them
    #[arg(short, long = "label", value_name = "LABEL")]
    labels: Vec<String>,
    /// Where its jobs run: local, docker, or ssh:TARGET
    #[arg(long, value_name = "EXECUTOR", default_value = "local")]
    executor: String,
    #[command(flatten)]
    client: ClientArgs,
}

const PAUSE_EXAMPLE: &str = "\
Examples:
  baton queues pause nightly
  baton queues pause nightly --label gpu --label os=linux --executor docker

A queue is the jobs of one project that require the same, as `baton queues list` shows
them: jobs with other labels or another executor are in another one. It stays paused
until it is resumed, also while it is empty.";

const RESUME_EXAMPLE: &str = "\
Example:
  baton queues resume nightly --label gpu";

pub(super) async fn run(args: QueuesArgs, context: &Context) -> anyhow::Result<u8> {
    match args.command {
        QueuesCommand::List { client } => list(&client, context).await?,
        QueuesCommand::Pause(queue) => pause(queue, context).await?,
        QueuesCommand::Resume(queue) => resume(queue, context).await?,
    }
    Ok(0)
}

async fn list(client: &ClientArgs, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(client).await?;
    let answer = reached
        .ask(async |to| Ok(to.queues().list(ListQueuesRequest {}).await?.into_inner()))
        .await?;
    let queues: Vec<_> = answer.queues.iter().map(QueueView::from).collect();
    match context.format {
        Format::Json => output::write_json(&QueuesView { queues, more: answer.more }),
        Format::Text => {
            let style = output::style(&context.environment);
            output::write(text::queues(&queues, Timestamp::now(), style).as_bytes())?;
            if answer.more > 0 {
                context.messages.note(&format!("and {} shorter ones", answer.more));
            }
            Ok(())
        }
    }
}

async fn pause(queue: OneQueue, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(&queue.client).await?;
    let (name, idempotency_key) = (queue.name(), random::idempotency_key()?);
    let request = PauseQueueRequest { idempotency_key, queue: Some(name.clone()) };
    reached.keep_asking(async |to| Ok(to.queues().pause(request.clone()).await?)).await?;
    say(context, &name, "is paused")
}

async fn resume(queue: OneQueue, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(&queue.client).await?;
    let (name, idempotency_key) = (queue.name(), random::idempotency_key()?);
    let request = ResumeQueueRequest { idempotency_key, queue: Some(name.clone()) };
    reached.keep_asking(async |to| Ok(to.queues().resume(request.clone()).await?)).await?;
    say(context, &name, "is resumed")
}

impl OneQueue {
    fn name(&self) -> QueueName {
        let mut labels = self.labels.clone();
        labels.sort();
        labels.dedup();
        QueueName { project: self.project.clone(), labels, executor: self.executor.clone() }
    }
}

fn say(context: &Context, name: &QueueName, what: &str) -> anyhow::Result<()> {
    let view = QueueNameView::from(name);
    match context.format {
        Format::Json => output::write_json(&view),
        Format::Text => output::write(format!("{} {what}\n", text::queue_name(&view)).as_bytes()),
    }
}
