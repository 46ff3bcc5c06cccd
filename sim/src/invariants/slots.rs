//! A runner never holds more leases than it has slots.

use super::{Invariant, View, nothing};

pub(super) const INVARIANT: Invariant =
    Invariant { name: "slots are never exceeded", always, at_the_end: nothing };

fn always(view: &View<'_>) -> Result<(), String> {
    view.each_state(|node, state| {
        for (id, runner) in state.runners() {
            let (held, slots) = (runner.leases.len(), runner.facts.slots as usize);
            if held > slots {
                return Err(format!("{node}: {id} holds {held} leases with {slots} slots"));
            }
        }
        Ok(())
    })
}
