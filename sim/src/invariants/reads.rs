//! A read shows nothing older than what was acknowledged or shown before it was asked,
//! and no call is refused for good that should be answered.

use super::{Invariant, View, nothing};

pub(super) const INVARIANT: Invariant =
    Invariant { name: "consistent reads are never stale", always, at_the_end: nothing };

fn always(view: &View<'_>) -> Result<(), String> {
    view.facts.lock().contradictions.first().map_or(Ok(()), |what| Err(what.clone()))
}
