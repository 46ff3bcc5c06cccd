//! A read shows nothing older than what was acknowledged or shown before it was asked:
//! no fewer attempts, no earlier phase, and no cancellation that is gone.

use super::{Invariant, nothing};
use crate::facts::Rule;

pub(crate) const INVARIANT: Invariant = Invariant {
    name: "consistent reads are never stale",
    always: |view| view.facts.lock().keeps(Rule::Reads),
    at_the_end: nothing,
};
