//! What was said to whom, and what really ran: what the invariants are about, apart
//! from what the nodes believe.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use baton_state::{Index, Job, JobId, Lease};

use crate::host::HostId;

/// What has happened. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Facts(Arc<Mutex<Known>>);

/// See [`Facts`].
#[derive(Debug, Default)]
pub struct Known {
    /// Now, in the simulation's time.
    pub now: Duration,
    /// Submissions that were acknowledged: key, and the job of the answer.
    pub submitted: Vec<(String, JobId)>,
    /// When a cancellation was acknowledged first, and the last lease by then.
    pub cancelled: BTreeMap<JobId, (Duration, Option<Lease>)>,
    /// The first final record that a client was shown.
    pub ended: BTreeMap<JobId, Job>,
    /// What a client was shown that does not go with what one was shown before.
    pub contradictions: Vec<String>,
    /// Processes that were started, when, and where.
    pub started: Vec<Start>,
    /// What was acknowledged as durable of the output of an attempt, since the last look.
    pub durable: Vec<(JobId, Lease, u64)>,
    /// Records as nodes saw them end, since the last look: who, and at which entry.
    pub finished: Vec<(HostId, Index, Arc<Job>)>,
    /// At which entry each has ended, and as what.
    pub ends: BTreeMap<JobId, (Index, Arc<Job>)>,
    /// Hashes of the state as nodes had it after an entry, since the last look.
    pub states: Vec<(HostId, Index, blake3::Hash)>,
    /// The first hash of each.
    pub state_at: BTreeMap<Index, (HostId, blake3::Hash)>,
    /// Calls of clients that got an answer.
    pub answered: u64,
}

/// A process that was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// When.
    pub at: Duration,
    /// Where.
    pub host: HostId,
    /// Of which job.
    pub job: JobId,
    /// For which lease.
    pub lease: Lease,
}

impl Facts {
    /// To read and to add to.
    pub fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    /// A client was shown how a job ended.
    pub fn note_end(&mut self, job: &Job) {
        let before = self.ended.entry(job.id).or_insert_with(|| job.clone());
        if before.phase != job.phase || before.attempts != job.attempts {
            self.contradictions
                .push(format!("job {} has ended twice: {before:?} and {job:?}", job.id));
        }
    }
}
