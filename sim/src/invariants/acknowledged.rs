//! Every acknowledged submission and every result that was shown survives, and one
//! submission is one job, however often it was sent, also after the job's end.

use super::{Invariant, View};
use crate::facts::Rule;

pub(crate) const INVARIANT: Invariant = Invariant {
    name: "acknowledged submissions and results survive, once",
    always: |view| view.facts.lock().keeps(Rule::Acknowledged),
    at_the_end,
};

fn at_the_end(view: &View<'_>) -> Result<(), String> {
    let (submitted, shown) = {
        let facts = view.facts.lock();
        (facts.submitted.clone(), facts.ended.clone())
    };
    for host in view.well() {
        let node = host.id();
        for job in submitted.values() {
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
    if ended != submitted.len() {
        return Err(format!("{ended} jobs have ended, {} were acknowledged", submitted.len()));
    }
    Ok(())
}
