//! Wakes those who wait for a job to change. What changed they read from the
//! state, so nothing can be missed and nothing piles up.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use baton_state::{Event, Index, JobId, State};
use tokio::sync::watch;

use crate::raft::Observer;

/// Who waits for which job.
#[derive(Default)]
pub(crate) struct Watchers {
    jobs: Mutex<HashMap<JobId, watch::Sender<Index>>>,
}

impl Watchers {
    /// Changes whenever something happens to the job.
    pub(crate) fn subscribe(&self, job: JobId) -> watch::Receiver<Index> {
        let mut jobs = self.lock();
        // Those whose last watcher has left go when somebody comes.
        if jobs.len() >= 1024 && jobs.len().is_power_of_two() {
            jobs.retain(|_, sender| sender.receiver_count() > 0);
        }
        jobs.entry(job).or_insert_with(|| watch::Sender::new(0)).subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<JobId, watch::Sender<Index>>> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Observer for Watchers {
    fn applied(&self, through: Index, _state: &State, events: &[Event]) {
        if events.is_empty() {
            return;
        }
        let mut jobs = self.lock();
        for job in events.iter().filter_map(|event| event.kind.job()) {
            if let Some(sender) = jobs.get(&job) {
                if sender.receiver_count() == 0 {
                    jobs.remove(&job);
                } else {
                    sender.send_replace(through);
                }
            }
        }
    }
}
