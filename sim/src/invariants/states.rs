//! The state is the same on all nodes at the same entry of the log, and what
//! `baton_state::invariants` says must hold of every state holds.

use super::{Invariant, View, nothing};
use crate::facts::Rule;

pub(crate) const INVARIANT: Invariant =
    Invariant { name: "equal states at equal entries", always, at_the_end: nothing };

fn always(view: &View<'_>) -> Result<(), String> {
    let mut facts = view.facts.lock();
    facts.keeps(Rule::States)?;
    for (host, index, hash) in std::mem::take(&mut facts.states) {
        let (other, before) = *facts.state_at.entry(index).or_insert((host, hash));
        if before != hash {
            return Err(format!("{host} and {other} have different states at entry {index}"));
        }
    }
    Ok(())
}
