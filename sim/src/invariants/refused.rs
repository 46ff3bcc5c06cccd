//! No call is refused for good that should be answered, and calls are answered at all.

use super::Invariant;
use crate::facts::Rule;

pub(crate) const INVARIANT: Invariant = Invariant {
    name: "no call is refused for good",
    always: |view| view.facts.lock().keeps(Rule::Refused),
    at_the_end: |view| match view.facts.lock().answered {
        0 => Err("no client was ever answered".to_owned()),
        _ => Ok(()),
    },
};
