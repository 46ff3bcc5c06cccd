//! Every job ends exactly once, and every node saw the same end.

use super::{Invariant, View};

pub(crate) const INVARIANT: Invariant =
    Invariant { name: "every job ends exactly once", always, at_the_end };

fn always(view: &View<'_>) -> Result<(), String> {
    let mut facts = view.facts.lock();
    let now = facts.now;
    for (host, index, job) in std::mem::take(&mut facts.finished) {
        facts.ended_at.entry(job.id).or_insert(now);
        let (before, known) =
            facts.ends.entry(job.id).or_insert_with(|| (index, std::sync::Arc::clone(&job)));
        if *before != index || *known != job {
            return Err(format!(
                "{host}: job {} ends at entry {index} as {:?}, and has ended at {before} as {:?}",
                job.id, job.phase, known.phase
            ));
        }
    }
    Ok(())
}

fn at_the_end(view: &View<'_>) -> Result<(), String> {
    let facts = view.facts.lock();
    let open = facts.submitted.iter().find(|(_, job)| !facts.ends.contains_key(job));
    open.map_or(Ok(()), |(key, job)| Err(format!("job {job} of key {key} has not ended")))
}
