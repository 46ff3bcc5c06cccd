//! Time has passed: waits that are too long end, back-offs and the deadlines of drains
//! are over.

use serde::{Deserialize, Serialize};

use super::{Refusal, Reply, drain_runner::end_overdue, finish::end};
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
        let limit = in_words(limit);
        let message = format!("no runner took it within its queue timeout of {limit}");
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
    end_overdue(ctx, command.at);
    Ok(Reply::Done)
}

/// So many milliseconds in the largest unit that leaves no rest.
fn in_words(millis: u64) -> String {
    const UNITS: [(u64, &str); 4] = [(3_600_000, "h"), (60_000, "min"), (1000, "s"), (1, "ms")];
    let whole = UNITS.iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit));
    let (unit, name) = whole.unwrap_or(&(1, "ms"));
    format!("{} {name}", millis / unit)
}

#[cfg(test)]
mod tests {
    use super::in_words;

    #[test]
    fn a_time_is_told_in_the_unit_that_fits() {
        let table = [
            (0, "0 ms"),
            (250, "250 ms"),
            (2000, "2 s"),
            (1500, "1500 ms"),
            (5_400_000, "90 min"),
            (7_200_000, "2 h"),
        ];
        for (millis, words) in table {
            assert_eq!(in_words(millis), words);
        }
    }
}
