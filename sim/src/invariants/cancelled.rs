//! A cancellation wins or loses once: after it was acknowledged no process of the job
//! starts for a lease that it did not have then, and none at all once it has ended.

use super::{Invariant, View, nothing};

pub(super) const INVARIANT: Invariant =
    Invariant { name: "nothing starts after an acknowledged cancel", always, at_the_end: nothing };

fn always(view: &View<'_>) -> Result<(), String> {
    let facts = view.facts.lock();
    for start in facts.started.iter().rev().take_while(|start| start.at == facts.now) {
        let Some((at, lease)) = facts.cancelled.get(&start.job) else { continue };
        if start.at > *at && lease.is_none_or(|lease| start.lease > lease) {
            return Err(format!(
                "job {} starts on {} for lease {} after its cancellation was acknowledged",
                start.job, start.host, start.lease
            ));
        }
    }
    Ok(())
}
