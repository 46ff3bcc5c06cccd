//! Queued jobs, by what they require. Everything here follows from the jobs, so
//! none of it is in a snapshot.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    ids::{Index, JobId, Timestamp},
    job::{Job, Phase},
    spec::Requirements,
};

/// A job's place in its queue: priority, then arrival.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    priority: Reverse<i32>,
    arrival: Index,
    /// The job.
    pub job: JobId,
}

impl Place {
    /// The place of a job among those with its requirements.
    #[must_use]
    pub fn of(job: &Job) -> Self {
        Self { priority: Reverse(job.spec.priority), arrival: job.arrival, job: job.id }
    }
}

/// Queues and the times at which queued jobs need attention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    ready: BTreeMap<Requirements, BTreeSet<Place>>,
    length: usize,
    /// Jobs in back-off, by its end.
    backoff: BTreeSet<(Timestamp, JobId)>,
    /// Jobs with a limit on their wait, by its end.
    deadlines: BTreeSet<(Timestamp, JobId)>,
}

impl Queues {
    /// Puts a queued job where it belongs.
    pub(crate) fn insert(&mut self, job: &Job) {
        let Phase::Queued { not_before } = job.phase else {
            return;
        };
        if let Some(time) = not_before {
            self.backoff.insert((time, job.id));
        } else {
            let requirements = &job.spec.requirements;
            let place = Place::of(job);
            if let Some(queue) = self.ready.get_mut(requirements) {
                self.length += usize::from(queue.insert(place));
            } else {
                self.ready.insert(requirements.clone(), BTreeSet::from([place]));
                self.length += 1;
            }
        }
        if let Some(deadline) = job.queue_deadline() {
            self.deadlines.insert((deadline, job.id));
        }
    }

    /// Takes a job out, given as it was when it was put in.
    pub(crate) fn remove(&mut self, job: &Job) {
        if let Phase::Queued { not_before: Some(time) } = job.phase {
            self.backoff.remove(&(time, job.id));
        } else if let Some(queue) = self.ready.get_mut(&job.spec.requirements) {
            self.length -= usize::from(queue.remove(&Place::of(job)));
            if queue.is_empty() {
                self.ready.remove(&job.spec.requirements);
            }
        }
        if let Some(deadline) = job.queue_deadline() {
            self.deadlines.remove(&(deadline, job.id));
        }
    }

    /// Jobs that could start now, by requirements, each queue in its order.
    pub fn ready(&self) -> impl Iterator<Item = (&Requirements, &BTreeSet<Place>)> {
        self.ready.iter()
    }

    /// The queue of these requirements.
    #[must_use]
    pub fn of(&self, requirements: &Requirements) -> Option<&BTreeSet<Place>> {
        self.ready.get(requirements)
    }

    /// Queued jobs, those in back-off included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.length + self.backoff.len()
    }

    /// No job waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next time at which a [`crate::Command::Tick`] would change one of them.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let times = [self.backoff.first(), self.deadlines.first()];
        times.into_iter().flatten().map(|(time, _)| *time).min()
    }

    /// Jobs whose back-off is over at `now`.
    pub(crate) fn backoff_over(&self, now: Timestamp) -> Vec<JobId> {
        due(&self.backoff, now)
    }

    /// Jobs that have waited too long at `now`.
    pub(crate) fn overdue(&self, now: Timestamp) -> Vec<JobId> {
        due(&self.deadlines, now)
    }
}

fn due(times: &BTreeSet<(Timestamp, JobId)>, now: Timestamp) -> Vec<JobId> {
    times.range(..=(now, JobId::MAX)).map(|(_, job)| *job).collect()
}
