//! Those who wait for an answer of the node: proposers for their entry, readers
//! for everything that was acknowledged before they asked.

use std::{collections::HashMap, mem};

use baton_state::Index;
use tokio::sync::oneshot;

use super::handle::{ProposeError, Waiting};

pub(super) type ReadSender = oneshot::Sender<Result<(), ProposeError>>;

/// The waiting callers, by an id that travels with the entry or the read. It is
/// unique over restarts and nodes, so an old entry never answers a new caller.
pub(super) struct Callers {
    proposals: HashMap<u128, Waiting>,
    reads: HashMap<u128, ReadSender>,
    /// Reads whose index is known and not yet applied.
    confirmed: Vec<(Index, ReadSender)>,
    last_id: u128,
}

impl Callers {
    /// With random bits, from which the ids count on.
    pub(super) fn new(seed: u128) -> Self {
        Self {
            proposals: HashMap::new(),
            reads: HashMap::new(),
            confirmed: Vec::new(),
            last_id: seed,
        }
    }

    /// A new id, and its bytes as they travel.
    pub(super) fn new_id(&mut self) -> (u128, Vec<u8>) {
        self.last_id = self.last_id.wrapping_add(1);
        (self.last_id, self.last_id.to_le_bytes().to_vec())
    }

    pub(super) fn proposed(&mut self, id: u128, waiting: Waiting) {
        self.proposals.insert(id, waiting);
    }

    pub(super) fn reads(&mut self, id: u128, reply: ReadSender) {
        self.reads.insert(id, reply);
    }

    /// Who proposed the entry with this context; none if that was another node
    /// or an earlier run.
    pub(super) fn proposer(&mut self, context: &[u8]) -> Option<Waiting> {
        self.proposals.remove(&id(context)?)
    }

    /// The read with this context may be answered once `index` is applied.
    pub(super) fn confirm(&mut self, context: &[u8], index: Index) {
        if let Some(reply) = id(context).and_then(|id| self.reads.remove(&id)) {
            self.confirmed.push((index, reply));
        }
    }

    /// Answers the reads for which enough is applied.
    pub(super) fn applied(&mut self, applied: Index) {
        for (index, reply) in mem::take(&mut self.confirmed) {
            if index <= applied {
                // A reader that has gone needs no answer.
                let _ = reply.send(Ok(()));
            } else {
                self.confirmed.push((index, reply));
            }
        }
    }

    /// Tells everybody that nobody knows what becomes of their request.
    pub(super) fn leadership_lost(&mut self) {
        for (_, waiting) in self.proposals.drain() {
            waiting.answer(Err(ProposeError::LeadershipLost));
        }
        let reads = self.reads.drain().map(|(_, reply)| reply);
        for reply in reads.chain(self.confirmed.drain(..).map(|(_, reply)| reply)) {
            let _ = reply.send(Err(ProposeError::LeadershipLost));
        }
    }
}

fn id(context: &[u8]) -> Option<u128> {
    Some(u128::from_le_bytes(context.try_into().ok()?))
}
