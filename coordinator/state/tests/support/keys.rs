//! A model of idempotency keys: what a caller may rely on.

use baton_state::{
    Command, EventKind, Index, Job, JobId, Refusal, Reply, Request, State, command::Evict, snapshot,
};
use proptest::prelude::*;

use super::world::Entry;

/// Idempotency keys as a caller sees them.
#[derive(Default)]
pub(crate) struct Keys {
    taken: Vec<Taken>,
    /// What the events have told the history about keys, and in which entry.
    recorded: Vec<(Index, Request, JobId)>,
    evicted_at: Index,
}

#[derive(Clone)]
struct Taken {
    request: Request,
    reply: Reply,
    /// The entry that took it, when that was after the job's end.
    late: Option<Index>,
}

impl Keys {
    /// Requests whose keys the state must know, and their first answers.
    pub(crate) fn taken(&self) -> Vec<(Request, Reply)> {
        self.taken.iter().map(|taken| (taken.request.clone(), taken.reply)).collect()
    }

    /// Checks an entry's answer, given the state before and after it.
    pub(crate) fn check(
        &mut self,
        before: State,
        entry: &Entry,
        after: &State,
    ) -> Result<(), TestCaseError> {
        self.record(entry);
        let request = match &entry.command {
            Command::Submit(command) => command.request.as_ref().zip(Some(command.history_seen)),
            Command::Cancel(command) => command.request.as_ref().zip(Some(command.history_seen)),
            Command::RemoveRunner(command) => {
                command.request.as_ref().zip(Some(command.history_seen))
            }
            Command::CordonRunner(command) => {
                command.request.as_ref().zip(Some(command.history_seen))
            }
            Command::DrainRunner(command) => {
                command.request.as_ref().zip(Some(command.history_seen))
            }
            Command::ResumeRunner(command) => {
                command.request.as_ref().zip(Some(command.history_seen))
            }
            Command::SetLabels(command) => command.request.as_ref().zip(Some(command.history_seen)),
            Command::SetPriority(command) => {
                command.request.as_ref().zip(Some(command.history_seen))
            }
            Command::PauseQueue(command) => {
                command.request.as_ref().zip(Some(command.history_seen))
            }
            Command::ResumeQueue(command) => {
                command.request.as_ref().zip(Some(command.history_seen))
            }
            Command::LiftQuarantine(command) => {
                command.request.as_ref().zip(Some(command.history_seen))
            }
            Command::Evict(command) => return self.forget(entry, command),
            _ => None,
        };
        let Some((request, history_seen)) = request else { return Ok(()) };
        if let Some(first) = self.taken.iter().find(|first| first.request.key == request.key) {
            if first.request.digest == request.digest {
                prop_assert_eq!(&entry.reply, &Ok(first.reply));
            } else {
                prop_assert_eq!(&entry.reply, &Err(Refusal::KeyReused));
            }
            prop_assert!(entry.events.is_empty());
            return unchanged(before, after);
        }
        let moved = history_seen < self.evicted_at;
        prop_assert_eq!(moved, entry.reply == Err(Refusal::HistoryMoved));
        if let Ok(reply) = entry.reply {
            let late = match reply {
                Reply::Job(job) => {
                    let submitted = matches!(entry.command, Command::Submit(_));
                    let ended = !submitted && before.job(job).is_none_or(Job::is_finished);
                    ended.then_some(entry.index)
                }
                Reply::Lease(_) | Reply::Done => None,
            };
            self.taken.push(Taken { request: request.clone(), reply, late });
        }
        Ok(())
    }

    fn record(&mut self, entry: &Entry) {
        for event in &entry.events {
            match &event.kind {
                EventKind::JobFinished { job } => self
                    .recorded
                    .extend(job.keys.iter().map(|key| (entry.index, key.clone(), job.id))),
                EventKind::KeyTaken { job, request } => {
                    self.recorded.push((entry.index, request.clone(), *job));
                }
                _ => {}
            }
        }
    }

    /// What goes must have been told to the history by the entry it is known to have.
    fn forget(&mut self, entry: &Entry, command: &Evict) -> Result<(), TestCaseError> {
        let evicted: Vec<JobId> = entry.events.iter().filter_map(|e| e.kind.job()).collect();
        let goes = |taken: &Taken| match (taken.late, taken.reply) {
            (Some(index), _) => index <= command.through,
            (None, Reply::Job(job)) => evicted.contains(&job),
            (None, Reply::Lease(_) | Reply::Done) => false,
        };
        let (gone, kept) = self.taken.drain(..).partition(goes);
        self.taken = kept;
        let gone: Vec<Taken> = gone;
        for Taken { request, reply, .. } in &gone {
            let told = self.recorded.iter().any(|(index, recorded, job)| {
                *index <= command.through && recorded == request && *reply == Reply::Job(*job)
            });
            prop_assert!(told, "the history does not have {request:?}, answered by {reply:?}");
        }
        if !evicted.is_empty() || !gone.is_empty() {
            self.evicted_at = entry.index;
        }
        Ok(())
    }
}

/// The same but for the entry that was applied, in memory and in bytes.
pub(crate) fn unchanged(mut before: State, after: &State) -> Result<(), TestCaseError> {
    before.skip(after.applied());
    prop_assert_eq!(&before, after);
    prop_assert_eq!(snapshot::encode(&before), snapshot::encode(after));
    Ok(())
}
