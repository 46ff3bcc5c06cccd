//! A model of idempotency keys: what a caller may rely on.

use baton_state::{Command, EventKind, Index, Refusal, Reply, Request, State, snapshot};
use proptest::prelude::*;

use super::world::Entry;

/// Idempotency keys as a caller sees them.
#[derive(Default)]
pub(crate) struct Keys {
    pub(crate) taken: Vec<(Request, Reply)>,
    evicted_at: Index,
}

impl Keys {
    /// Checks an entry's answer, given the state before and after it.
    pub(crate) fn check(
        &mut self,
        before: State,
        entry: &Entry,
        after: &State,
    ) -> Result<(), TestCaseError> {
        let request = match &entry.command {
            Command::Submit(command) => command.request.as_ref().zip(Some(command.history_seen)),
            Command::Cancel(command) => command.request.as_ref().zip(Some(command.history_seen)),
            Command::RemoveRunner(command) => {
                command.request.as_ref().zip(Some(command.history_seen))
            }
            _ => None,
        };
        let Some((request, history_seen)) = request else {
            self.forget(entry);
            return Ok(());
        };
        if let Some((first, reply)) = self.taken.iter().find(|(first, _)| first.key == request.key)
        {
            if first.digest == request.digest {
                prop_assert_eq!(&entry.reply, &Ok(*reply));
            } else {
                prop_assert_eq!(&entry.reply, &Err(Refusal::KeyReused));
            }
            prop_assert!(entry.events.is_empty());
            return unchanged(before, after);
        }
        let moved = history_seen < self.evicted_at;
        prop_assert_eq!(moved, entry.reply == Err(Refusal::HistoryMoved));
        if let Ok(reply) = entry.reply {
            self.taken.push((request.clone(), reply));
        }
        Ok(())
    }

    fn forget(&mut self, entry: &Entry) {
        for event in &entry.events {
            if let EventKind::JobEvicted { job } = event.kind {
                self.taken.retain(|(_, reply)| *reply != Reply::Job(job));
                self.evicted_at = entry.index;
            }
        }
    }
}

/// The same but for the entry that was applied, in memory and in bytes.
pub(crate) fn unchanged(mut before: State, after: &State) -> Result<(), TestCaseError> {
    before.skip(after.applied());
    prop_assert_eq!(&before, after);
    prop_assert_eq!(snapshot::encode(&before), snapshot::encode(after));
    Ok(())
}
