//! What becomes of committed entries: they change the state, observers hear of it,
//! and proposers get their answers.

use std::{
    mem,
    sync::{Arc, PoisonError},
};

use baton_state::{Command, Event, Refusal, Reply, State};
use protobuf::Message as _;
use raft::eraftpb::{ConfChangeV2, Entry, EntryType};

use super::{RaftError, handle::ProposeError, node::Node};

/// Entries applied under one lock.
const BATCH: usize = 256;

/// The outcome of an entry's command, if it has one.
type Outcome = Option<Result<Reply, Refusal>>;

impl Node {
    pub(super) fn apply(&mut self, entries: Vec<Entry>) -> Result<(), RaftError> {
        let mut entries = entries.into_iter().peekable();
        while entries.peek().is_some() {
            self.apply_batch(entries.by_ref().take(BATCH))?;
        }
        Ok(())
    }

    fn apply_batch(&mut self, entries: impl Iterator<Item = Entry>) -> Result<(), RaftError> {
        let mut events = Vec::new();
        let mut replies = Vec::new();
        {
            let state = Arc::clone(&self.state);
            let mut state = state.write().unwrap_or_else(PoisonError::into_inner);
            for mut entry in entries {
                let context = mem::take(&mut entry.context);
                let outcome = self.apply_entry(&mut state, &entry, &mut events)?;
                self.applied = entry.index;
                self.applied_term = entry.term;
                if let Some(waiting) = self.callers.proposer(&context) {
                    replies.push((waiting, outcome.unwrap_or(Ok(Reply::Done))));
                }
            }
        }
        self.raw.mut_store().applied(self.applied);
        {
            let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
            for observer in &self.options.observers {
                observer.applied(self.applied, &state, &events);
            }
        }
        for (waiting, reply) in replies {
            waiting.answer(reply.map_err(ProposeError::Refused));
        }
        Ok(())
    }

    fn apply_entry(
        &mut self,
        state: &mut State,
        entry: &Entry,
        events: &mut Vec<Event>,
    ) -> Result<Outcome, RaftError> {
        let mut apply = |bytes: &[u8]| -> Result<Outcome, RaftError> {
            if bytes.is_empty() {
                state.skip(entry.index);
                return Ok(None);
            }
            let unknown = |error: rmp_serde::decode::Error| RaftError::UnknownCommand {
                index: entry.index,
                detail: error.to_string(),
            };
            let command = Command::decode(bytes).map_err(unknown)?;
            let (reply, new) = state.apply(entry.index, command);
            events.extend(new);
            Ok(Some(reply))
        };
        if entry.get_entry_type() == EntryType::EntryNormal {
            return apply(&entry.data);
        }
        let change = ConfChangeV2::parse_from_bytes(&entry.data).map_err(raft::Error::from)?;
        let outcome = apply(&change.context)?;
        // What the state refuses does not happen in Raft either.
        if !matches!(outcome, Some(Err(_))) {
            let members = self.raw.apply_conf_change(&change)?;
            self.raw.mut_store().set_conf_state(members);
        }
        Ok(outcome)
    }
}
