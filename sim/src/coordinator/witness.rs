//! Notes what a node applies: the hash of its state after each step, and every job's end.

use baton_coordinator::raft::Observer;
use baton_state::{Event, EventKind, Index, State, invariants, snapshot};

use crate::{
    facts::{Facts, Rule},
    fuse::{Fuse, Step},
    host::HostId,
};

/// Watches one node.
pub(super) struct Witness {
    pub(super) host: HostId,
    pub(super) facts: Facts,
    pub(super) fuse: Fuse,
}

impl Witness {
    fn note(&self, state: &State) {
        let hash = blake3::hash(&snapshot::encode(state));
        let mut facts = self.facts.lock();
        facts.states.push((self.host, state.applied(), hash));
        if let Err(error) = invariants::check(state) {
            facts.breach(Rule::States, format!("{}: {error}", self.host));
        }
    }
}

impl Observer for Witness {
    fn applied(&self, through: Index, state: &State, events: &[Event]) {
        // Nobody hears what a process does after its end.
        let _ = self.fuse.pass(Step::Apply, || {
            self.note(state);
            let mut facts = self.facts.lock();
            for event in events {
                if let EventKind::JobFinished { job } = &event.kind {
                    facts.finished.push((self.host, event.index.min(through), job.clone()));
                }
            }
        });
    }

    fn installed(&self, state: &State) {
        self.note(state);
    }
}
