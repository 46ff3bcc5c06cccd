//! Those who wait for an answer of the node: proposers for their entry, readers
//! for everything that was acknowledged before they asked.

use std::{collections::BTreeMap, mem};

use baton_state::Index;
use tokio::sync::oneshot;

use super::handle::{ProposeError, Waiting};

pub(super) type ReadSender = oneshot::Sender<Result<(), ProposeError>>;

/// Ticks that a read waits for the leader's word. A follower's question, or the
/// answer to it, can be lost on the way.
const READ_TICKS: u64 = 40;

/// The waiting callers, by an id that travels with the entry or the read. It is
/// unique over restarts and nodes, so an old entry never answers a new caller.
pub(super) struct Callers {
    proposals: BTreeMap<u128, Waiting>,
    /// Reads to ask for next, as one.
    new_reads: Vec<ReadSender>,
    reads: BTreeMap<u128, Reads>,
    /// Reads whose index is known and not yet applied.
    confirmed: Vec<(Index, Vec<ReadSender>)>,
    last_id: u128,
}

/// Reads that were asked for together.
struct Reads {
    asked_at: u64,
    senders: Vec<ReadSender>,
}

impl Callers {
    /// With random bits, from which the ids count on.
    pub(super) fn new(seed: u128) -> Self {
        Self {
            proposals: BTreeMap::new(),
            new_reads: Vec::new(),
            reads: BTreeMap::new(),
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

    /// Somebody wants to read; see [`Callers::ask`].
    pub(super) fn wants_to_read(&mut self, sender: ReadSender) {
        self.new_reads.push(sender);
    }

    /// What to ask Raft with for all who want to read by now; none if nobody does.
    pub(super) fn ask(&mut self, tick: u64) -> Option<Vec<u8>> {
        if self.new_reads.is_empty() {
            return None;
        }
        let (id, context) = self.new_id();
        let senders = mem::take(&mut self.new_reads);
        self.reads.insert(id, Reads { asked_at: tick, senders });
        Some(context)
    }

    /// Who proposed the entry with this context; none if that was another node
    /// or an earlier run.
    pub(super) fn proposer(&mut self, context: &[u8]) -> Option<Waiting> {
        self.proposals.remove(&id(context)?)
    }

    /// The reads with this context may be answered once `index` is applied.
    pub(super) fn confirm(&mut self, context: &[u8], index: Index) {
        if let Some(reads) = id(context).and_then(|id| self.reads.remove(&id)) {
            self.confirmed.push((index, reads.senders));
        }
    }

    /// Answers the reads for which enough is applied.
    pub(super) fn applied(&mut self, applied: Index) {
        for (index, senders) in mem::take(&mut self.confirmed) {
            if index <= applied {
                answer(senders, &Ok(()));
            } else {
                self.confirmed.push((index, senders));
            }
        }
    }

    /// Gives up the reads whose answer was lost.
    pub(super) fn expire(&mut self, tick: u64) {
        let lost = self.reads.extract_if(.., |_, reads| reads.asked_at + READ_TICKS < tick);
        for (_, reads) in lost {
            answer(reads.senders, &Err(ProposeError::NotLeader));
        }
    }

    /// Nobody can say what is acknowledged: there is no leader, or another one.
    pub(super) fn fail_reads(&mut self) {
        let failed = Err(ProposeError::NotLeader);
        answer(mem::take(&mut self.new_reads), &failed);
        for reads in mem::take(&mut self.reads).into_values() {
            answer(reads.senders, &failed);
        }
    }

    /// This node does not lead any more: nobody knows what becomes of the proposals.
    pub(super) fn fail_proposals(&mut self) {
        for waiting in mem::take(&mut self.proposals).into_values() {
            waiting.answer(Err(ProposeError::LeadershipLost));
        }
    }
}

fn answer(senders: Vec<ReadSender>, answer: &Result<(), ProposeError>) {
    for sender in senders {
        // A reader that has gone needs no answer.
        let _ = sender.send(answer.clone());
    }
}

fn id(context: &[u8]) -> Option<u128> {
    Some(u128::from_le_bytes(context.try_into().ok()?))
}
