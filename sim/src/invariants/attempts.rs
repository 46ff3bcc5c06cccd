//! No job has more attempts than it may.

use super::{Invariant, View, nothing};

pub(super) const INVARIANT: Invariant =
    Invariant { name: "attempts within their cap", always, at_the_end: nothing };

fn always(view: &View<'_>) -> Result<(), String> {
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
