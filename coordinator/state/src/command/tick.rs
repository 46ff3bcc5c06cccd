//! Time has passed: waits that are too long end, back-offs are over.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, finish::end};
use crate::{
    event::EventKind,
    ids::Timestamp,
    job::{Final, Outcome, Phase},
    state::Applying,
};

/// Time has passed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tick {
    /// What time it is.
    pub at: Timestamp,
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: &Tick) -> Result<Reply, Refusal> {
    for id in ctx.state.queues.overdue(command.at) {
        let Some(job) = ctx.state.take(id) else {
            continue;
        };
        let limit = job.spec.queue_timeout.unwrap_or_default();
        let message = format!("no runner took it within its queue timeout of {limit} ms");
        let mut outcome = Outcome::without_process(Final::Error, "QUEUE_TIMEOUT", message);
        outcome.tree_gone = true;
        end(ctx, job, outcome, false);
    }
    for id in ctx.state.queues.backoff_over(command.at) {
        let Some(mut job) = ctx.state.take(id) else {
            continue;
        };
        job.phase = Phase::Queued { not_before: None };
        ctx.state.put(job);
        ctx.emit(EventKind::JobReady { job: id });
    }
    Ok(Reply::Done)
}
