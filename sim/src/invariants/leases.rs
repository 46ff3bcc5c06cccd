//! A job has one live lease at most.

use std::collections::BTreeSet;

use super::{Invariant, View, nothing};

pub(super) const INVARIANT: Invariant =
    Invariant { name: "one live lease per job", always, at_the_end: nothing };

fn always(view: &View<'_>) -> Result<(), String> {
    view.each_state(|node, state| {
        let mut leased = BTreeSet::new();
        for (lease, job) in state.runners().values().flat_map(|runner| &runner.leases) {
            if !leased.insert(job) {
                return Err(format!("{node}: job {job} has another lease besides {lease}"));
            }
        }
        Ok(())
    })
}
