//! `baton runners lift` and `checks`: how a runner is, and an end to its quarantine.

use baton_proto::v1::{LiftQuarantineRequest, ListChecksRequest};

use super::{
    Context,
    scheduling::{OneRunner, say},
};
use crate::{
    output::{
        self, Format, text,
        views::{ChecksView, HealthView},
    },
    random,
};

pub(super) const CHECKS_EXAMPLE: &str = "\
Example:
  baton runners checks build-1

What it said in the last hour, as far as the coordinator led that leads now; oldest first.";

pub(super) const LIFT_EXAMPLE: &str = "\
Example:
  baton runners lift build-1

Its executors take jobs again until they fail three times anew. It looks at all of them
at once. What is wrong with its host, such as a full disk, stays.";

pub(super) async fn checks(args: OneRunner, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(&args.client).await?;
    let request = ListChecksRequest { runner: args.runner };
    let answer = reached
        .ask(async |to| Ok(to.runners().checks(request.clone()).await?.into_inner()))
        .await?;
    let checks: Vec<_> = answer.checks.iter().map(HealthView::from).collect();
    match context.format {
        Format::Json => output::write_json(&ChecksView { checks }),
        Format::Text => output::write(text::checks(&checks).as_bytes()),
    }
}

pub(super) async fn lift(args: OneRunner, context: &Context) -> anyhow::Result<()> {
    let reached = context.connect(&args.client).await?;
    let idempotency_key = random::idempotency_key()?;
    let request = LiftQuarantineRequest { idempotency_key, runner: args.runner.clone() };
    let answer = reached
        .keep_asking(async |to| Ok(to.runners().lift(request.clone()).await?.into_inner()))
        .await?;
    say(context, answer.runner_id, &format!("runner {} looks at its executors", args.runner))
}
