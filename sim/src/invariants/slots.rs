//! A runner never holds more leases than it has slots, whatever was said of them.

use super::{Invariant, View, nothing};
use crate::runner::SLOTS;

pub(crate) const INVARIANT: Invariant =
    Invariant { name: "slots are never exceeded", always, at_the_end: nothing };

fn always(view: &View<'_>) -> Result<(), String> {
    view.each_state(|node, state| {
        for (id, runner) in state.runners() {
            let (held, slots) = (runner.leases.len(), runner.facts.slots.min(SLOTS));
            if held > slots as usize {
                return Err(format!("{node}: {id} holds {held} leases with {slots} slots"));
            }
        }
        Ok(())
    })
}
