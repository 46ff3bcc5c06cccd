//! What a stale lease reports is never accepted: each record is of the process of its
//! own lease, which signs with it.

use super::{Invariant, View, nothing};

pub(crate) const INVARIANT: Invariant =
    Invariant { name: "a stale lease's write is never accepted", always, at_the_end: nothing };

fn always(view: &View<'_>) -> Result<(), String> {
    view.each_state(|node, state| {
        let attempts = state.jobs().values().flat_map(|job| &job.attempts);
        let outcomes =
            attempts.filter_map(|attempt| Some((attempt.lease, attempt.outcome.as_ref()?)));
        for (lease, outcome) in outcomes {
            let signed = u64::from(outcome.killed);
            if signed != 0 && signed != lease.0 {
                return Err(format!("{node}: the record of lease {lease} is of lease {signed}"));
            }
        }
        Ok(())
    })
}
