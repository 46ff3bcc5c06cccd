//! Every acknowledged submission and every result that was shown survives, and one
//! submission is one job, however often it was sent.

use std::collections::{BTreeMap, BTreeSet};

use super::{Invariant, View, nothing};

pub(super) const INVARIANT: Invariant = Invariant {
    name: "acknowledged submissions and results survive, once",
    always: nothing,
    at_the_end,
};

fn at_the_end(view: &View<'_>) -> Result<(), String> {
    let (submitted, shown) = {
        let facts = view.facts.lock();
        (facts.submitted.clone(), facts.ended.clone())
    };
    let mut keys = BTreeMap::new();
    for (key, job) in &submitted {
        if let Some(other) = keys.insert(key, job).filter(|other| *other != job) {
            return Err(format!("key {key} stands for job {other} and for job {job}"));
        }
    }
    let accepted: BTreeSet<_> = submitted.iter().map(|(_, job)| *job).collect();
    for host in view.well() {
        let node = host.id();
        for job in &accepted {
            let Some(record) = view.record(host, *job)? else {
                return Err(format!("{node} does not know job {job}, which was acknowledged"));
            };
            if let Some(shown) = shown.get(job).filter(|shown| shown.phase != record.phase) {
                return Err(format!(
                    "{node} has job {job} as {:?}; {:?} was shown",
                    record.phase, shown.phase
                ));
            }
        }
    }
    let ended = view.facts.lock().ends.len();
    if ended != accepted.len() {
        return Err(format!("{ended} jobs have ended, {} were acknowledged", accepted.len()));
    }
    Ok(())
}
