//! Take a lease away from a runner that is gone or no longer has the job.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, finish::lost, take_leased};
use crate::{
    ids::{JobId, Lease, Timestamp},
    job::{Final, Outcome},
    state::Applying,
};

/// Take a lease away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LoseLease {
    /// Which job.
    pub job: JobId,
    /// Under which lease.
    pub lease: Lease,
    /// When.
    pub at: Timestamp,
    /// Why.
    pub cause: LossCause,
}

/// Why a lease is taken away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LossCause {
    /// The runner was not heard of for the lease's time to live.
    Expired,
    /// The runner is there and does not have the job.
    NotHeld,
}

impl LossCause {
    fn reason(self) -> &'static str {
        match self {
            Self::Expired => "LEASE_EXPIRED",
            Self::NotHeld => "NOT_HELD",
        }
    }

    fn message(self, runner: &str) -> String {
        match self {
            Self::Expired => format!("runner {runner} was not heard of until its lease ran out"),
            Self::NotHeld => format!("runner {runner} came back without the job"),
        }
    }
}

pub(super) fn apply(ctx: &mut Applying<'_>, command: &LoseLease) -> Result<Reply, Refusal> {
    let mut job = take_leased(ctx, command.job, command.lease)?;
    if command.cause == LossCause::Expired && !job.lease_may_expire() {
        ctx.state.put(job);
        return Err(Refusal::LeaseKept);
    }
    let runner = job.attempts.last().map(|attempt| attempt.runner_name.clone());
    let message = command.cause.message(&runner.unwrap_or_default());
    let outcome = Outcome::without_process(Final::Lost, command.cause.reason(), message);
    if let Some(attempt) = job.attempts.last_mut() {
        attempt.finished_at = Some(command.at);
        attempt.outcome = Some(outcome.clone());
    }
    lost(ctx, job, outcome);
    Ok(Reply::Done)
}
