//! The SQL history of every node says what the state said.

use super::{Invariant, View, nothing};

pub(crate) const INVARIANT: Invariant =
    Invariant { name: "the history says what the state said", always: nothing, at_the_end };

fn at_the_end(view: &View<'_>) -> Result<(), String> {
    let ends = view.facts.lock().ends.clone();
    for host in view.well() {
        for (id, (_, job)) in &ends {
            let found = view.in_history(host, *id)?;
            if found.as_ref() != Some(&**job) {
                return Err(format!(
                    "the history of {} has job {id} as {found:?}; it ended as {job:?}",
                    host.id()
                ));
            }
        }
    }
    Ok(())
}
