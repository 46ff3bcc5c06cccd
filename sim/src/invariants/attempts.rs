//! No job has more attempts than were asked for, neither in a state nor on the runners.

use super::{Invariant, View};
use crate::facts::Known;

pub(crate) const INVARIANT: Invariant =
    Invariant { name: "attempts within their cap", always, at_the_end };

fn always(view: &View<'_>) -> Result<(), String> {
    {
        let facts = view.facts.lock();
        for start in facts.started.iter().rev().take_while(|start| start.at == facts.now) {
            started(&facts, start.job)?;
        }
    }
    view.each_state(|node, state| {
        for job in state.jobs().values() {
            let (used, allowed) = (job.attempts.len(), job.spec.attempts as usize);
            if used > allowed {
                return Err(format!("{node}: job {} has {used} attempts of {allowed}", job.id));
            }
        }
        Ok(())
    })
}

/// By the end it is known of every job what was asked for.
fn at_the_end(view: &View<'_>) -> Result<(), String> {
    let facts = view.facts.lock();
    facts.used.keys().try_for_each(|job| started(&facts, *job))
}

fn started(facts: &Known, job: baton_state::JobId) -> Result<(), String> {
    let used = facts.used.get(&job).map_or(0, std::collections::BTreeSet::len);
    match facts.asked.get(&job) {
        Some(asked) if used > *asked as usize => {
            Err(format!("job {job} was started for {used} leases, and {asked} attempts asked for"))
        }
        _ => Ok(()),
    }
}
