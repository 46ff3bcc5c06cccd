//! A cancellation wins or loses once: after it was acknowledged no process of the job
//! starts for a lease that it did not have then, and none at all once it has ended.

use super::{Invariant, View, nothing};

pub(crate) const INVARIANT: Invariant =
    Invariant { name: "nothing starts after an acknowledged cancel", always, at_the_end: nothing };

fn always(view: &View<'_>) -> Result<(), String> {
    let facts = view.facts.lock();
    for start in facts.started.iter().rev().take_while(|start| start.at == facts.now) {
        let what = format!("job {} starts on {} for lease {}", start.job, start.host, start.lease);
        if let Some(ended) = facts.ended_at.get(&start.job).filter(|ended| start.at > **ended) {
            return Err(format!("{what}, and has ended at {:.3} s", ended.as_secs_f64()));
        }
        let Some((at, lease)) = facts.cancelled.get(&start.job) else { continue };
        if start.at > *at && lease.is_none_or(|lease| start.lease > lease) {
            return Err(format!("{what} after its cancellation was acknowledged"));
        }
    }
    Ok(())
}
