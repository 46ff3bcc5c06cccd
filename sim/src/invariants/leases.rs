//! A job has one live lease at most, and a lease is one runner's and one job's.

use std::collections::BTreeSet;

use super::{Invariant, View, nothing};
use crate::facts::Rule;

pub(crate) const INVARIANT: Invariant =
    Invariant { name: "one live lease per job", always, at_the_end: nothing };

fn always(view: &View<'_>) -> Result<(), String> {
    view.facts.lock().keeps(Rule::Leases)?;
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
