//! No two processes of one job run at once. What is frozen does not run: it looks at its
//! lease before it does anything else.

use std::collections::BTreeMap;

use super::{Invariant, View, nothing};
use crate::facts::Rule;

pub(crate) const INVARIANT: Invariant =
    Invariant { name: "no two executions of one job at once", always, at_the_end: nothing };

fn always(view: &View<'_>) -> Result<(), String> {
    view.facts.lock().keeps(Rule::Exclusive)?;
    let mut running = BTreeMap::new();
    for host in view.hosts.runners.iter().filter(|host| !host.frozen) {
        for (job, lease) in host.machine.running() {
            let this = (host.id(), lease);
            if let Some((other, before)) = running.insert(job, this) {
                return Err(format!(
                    "job {job} runs on {other} for lease {before} and on {} for lease {lease}",
                    this.0
                ));
            }
        }
    }
    Ok(())
}
