//! `baton runners cordon`, `drain`, `resume` and `label`: which jobs a runner gets.

use std::time::Duration;

use baton_client::ClientError;
use baton_proto::{
    error::Reason,
    time::duration_to_proto,
    v1::{
        AtDeadline, CordonRunnerRequest, DrainRunnerRequest, GetRunnerRequest, ResumeRunnerRequest,
        SchedulingState, SetRunnerLabelsRequest,
    },
};
use clap::{Args, ValueEnum};
use tokio::time::sleep;

use super::Context;
use crate::{
    asking::Reached,
    commands::runner::check_labels,
    connect::ClientArgs,
    exit::UsageError,
    output::{self, Format, text, views::ChangedView},
    quantities::Span,
    random,
};

/// How often a runner that is being emptied is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// A runner, and nothing more.
#[derive(Args, Debug)]
pub(super) struct OneRunner {
    /// Id or name of the runner
    #[arg(value_name = "RUNNER")]
    pub(super) runner: String,
    #[command(flatten)]
    pub(super) client: ClientArgs,
}

/// The arguments of `runners drain`.
#[derive(Args, Debug)]
pub(super) struct DrainArgs {
    /// Id or name of the runner
    #[arg(value_name = "RUNNER")]
    runner: String,
    /// How long its jobs may go on [default: until all have ended]
    #[arg(long, value_name = "TIME")]
    deadline: Option<Span>,
    /// What happens then to those that still run
    #[arg(long, value_enum, value_name = "WHAT", requires = "deadline", default_value = "requeue")]
    then: Then,
    /// Return when it has no job left
    #[arg(long)]
    wait: bool,
    #[command(flatten)]
    client: ClientArgs,
}

/// What happens at a deadline.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Then {
    /// They are stopped and wait for another runner
    Requeue,
    /// They are cancelled
    Cancel,
    /// They go on to their end
    Wait,
}

/// The arguments of `runners label`.
#[derive(Args, Debug)]
pub(super) struct LabelArgs {
    /// Id or name of the runner, and what to grant (+) and to hide (-)
    // One argument, since only what follows another value may begin with '-'.
    #[arg(
        required = true,
        num_args = 2..,
        allow_hyphen_values = true,
        value_names = ["RUNNER", "+LABEL|-LABEL"]
    )]
    change: Vec<String>,
    #[command(flatten)]
    client: ClientArgs,
}

pub(super) const CORDON_EXAMPLE: &str = "\
Example:
  baton runners cordon build-1

It gets no new jobs until it is resumed, also when it restarts. Those it has go on.";

pub(super) const DRAIN_EXAMPLE: &str = "\
Examples:
  baton runners drain build-1 --wait
  baton runners drain build-1 --deadline 10m --then requeue --wait

Jobs that are given back do not use up an attempt. Those whose --on-lost is fail or wait
must not run twice: with requeue, they go on to their end.";

pub(super) const RESUME_EXAMPLE: &str = "\
Example:
  baton runners resume build-1

Ends a cordon and a drain. Jobs that a deadline has stopped already stay stopped.";

pub(super) const LABEL_EXAMPLE: &str = "\
Example:
  baton runners label build-1 +gpu -old
  baton runners label -o json build-1 -old

Options come before the runner. What is granted and hidden outlasts the runner's sessions,
whatever its own settings say. The other sign takes it back: +old shows a hidden label again,
and -gpu takes a granted one away.";

pub(super) async fn cordon(args: OneRunner, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(&args.client).await?;
    let idempotency_key = random::idempotency_key()?;
    let request = CordonRunnerRequest { idempotency_key, runner: args.runner.clone() };
    let answer = reached
        .keep_asking(async |to| Ok(to.runners().cordon(request.clone()).await?.into_inner()))
        .await?;
    say(context, answer.runner_id, &format!("runner {} is cordoned", args.runner))
}

pub(super) async fn drain(args: DrainArgs, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(&args.client).await?;
    let then = match args.then {
        Then::Requeue => AtDeadline::Requeue,
        Then::Cancel => AtDeadline::Cancel,
        Then::Wait => AtDeadline::Wait,
    };
    let request = DrainRunnerRequest {
        idempotency_key: random::idempotency_key()?,
        runner: args.runner.clone(),
        deadline: args.deadline.map(|Span(time)| duration_to_proto(time)),
        then: then.into(),
    };
    let answer = reached
        .keep_asking(async |to| Ok(to.runners().drain(request.clone()).await?.into_inner()))
        .await?;
    let mut done = format!("runner {} is being drained", args.runner);
    if args.wait {
        until_empty(&reached, &args.runner, &answer.runner_id, context).await?;
        done = format!("runner {} has no jobs left", args.runner);
    }
    say(context, answer.runner_id, &done)
}

/// Tells a person how many jobs are left until there are none.
async fn until_empty(
    reached: &Reached,
    name: &str,
    id: &str,
    context: &Context,
) -> anyhow::Result<()> {
    let request = GetRunnerRequest { runner: id.to_owned() };
    let mut told = None;
    loop {
        let runner = reached
            .keep_asking(async |to| match to.runners().get(request.clone()).await {
                Ok(answer) => {
                    let runner = answer.into_inner().runner;
                    runner.ok_or_else(|| ClientError::missing("runner")).map(Some)
                }
                Err(status) => match ClientError::from(status) {
                    // It was there before: an ephemeral one that is done is forgotten.
                    ClientError::Refused(it) if it.reason == Reason::RunnerNotFound => Ok(None),
                    error => Err(error),
                },
            })
            .await?;
        let Some(runner) = runner else { return Ok(()) };
        let left = runner.leases.len();
        let jobs = |left: usize| text::counted(left as u64, "job");
        if left == 0 {
            return Ok(());
        }
        if runner.scheduling.is_none_or(|it| it.state() == SchedulingState::Active) {
            anyhow::bail!("runner {name} was resumed meanwhile, and has {}", jobs(left));
        }
        if told.replace(left) != Some(left) {
            context.messages.note(&format!("runner {name}: {} left", jobs(left)));
        }
        sleep(LOOK_EVERY).await;
    }
}

pub(super) async fn resume(args: OneRunner, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(&args.client).await?;
    let idempotency_key = random::idempotency_key()?;
    let request = ResumeRunnerRequest { idempotency_key, runner: args.runner.clone() };
    let answer = reached
        .keep_asking(async |to| Ok(to.runners().resume(request.clone()).await?.into_inner()))
        .await?;
    say(context, answer.runner_id, &format!("runner {} takes jobs again", args.runner))
}

pub(super) async fn label(args: LabelArgs, context: &Context) -> anyhow::Result<()> {
    let mut change = args.change;
    let (grant, hide) = grant_and_hide(&change.split_off(1))?;
    let runner = change.concat();
    let reached = context.connect(&args.client).await?;
    let request = SetRunnerLabelsRequest {
        idempotency_key: random::idempotency_key()?,
        runner: runner.clone(),
        grant,
        hide,
    };
    let answer = reached
        .keep_asking(async |to| Ok(to.runners().set_labels(request.clone()).await?.into_inner()))
        .await?;
    say(context, answer.runner_id, &format!("the labels of runner {runner} are changed"))
}

/// Labels with a `+` before them, and those with a `-`.
fn grant_and_hide(changes: &[String]) -> Result<(Vec<String>, Vec<String>), UsageError> {
    let (mut grant, mut hide) = (Vec::new(), Vec::new());
    for change in changes {
        match (change.strip_prefix('+'), change.strip_prefix('-')) {
            (Some(label), _) => grant.push(label.to_owned()),
            (_, Some(label)) => hide.push(label.to_owned()),
            (None, None) => {
                let text = format!("{change:?}: neither +LABEL nor -LABEL; options come first");
                return Err(UsageError(text));
            }
        }
    }
    check_labels(&grant)?;
    check_labels(&hide)?;
    if let Some(label) = grant.iter().find(|label| hide.contains(label)) {
        return Err(UsageError(format!("{label}: cannot be granted and hidden at once")));
    }
    Ok((grant, hide))
}

pub(super) fn say(context: &Context, id: String, text: &str) -> anyhow::Result<()> {
    match context.format {
        Format::Json => output::write_json(&ChangedView { id }),
        Format::Text => output::write(format!("{text}\n").as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_say_by_their_sign_what_becomes_of_them() {
        let of = |changes: &[&str]| {
            grant_and_hide(&changes.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>())
        };
        let (grant, hide) = of(&["+gpu", "-old", "+os=linux"]).unwrap();
        assert_eq!((grant, hide), (vec!["gpu".into(), "os=linux".into()], vec!["old".into()]));
        for wrong in [&["gpu"][..], &["+"], &["-a b"], &["+a", "-a"]] {
            assert!(of(wrong).is_err(), "{wrong:?}");
        }
    }
}
