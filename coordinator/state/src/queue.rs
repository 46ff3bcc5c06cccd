//! Live jobs, by what they require and, below that, by project. [`Queues`] follows from the
//! jobs, so none of it is in a snapshot.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Index, JobId, Timestamp},
    job::{Job, Phase},
    spec::{Executor, JobSpec, Requirements},
};

/// Which queue. It has the jobs of all levels, which nobody asks for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct QueueName {
    /// Whose jobs.
    pub project: String,
    /// As in [`Requirements`].
    pub labels: BTreeSet<String>,
    /// As in [`Requirements`].
    pub executor: Executor,
}

impl QueueName {
    /// The queue of a project's jobs with these requirements.
    #[must_use]
    pub fn of(project: &str, requirements: &Requirements) -> Self {
        Self {
            project: project.to_owned(),
            labels: requirements.labels.clone(),
            executor: requirements.executor.clone(),
        }
    }
}

impl fmt::Display for QueueName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { project, labels, executor } = self;
        write!(f, "project {project}, {executor}")?;
        for (position, label) in labels.iter().enumerate() {
            let separator = if position == 0 { ", labels: " } else { ", " };
            write!(f, "{separator}{label}")?;
        }
        Ok(())
    }
}

/// Somebody keeps the jobs of a queue waiting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Paused {
    /// Who.
    pub by: String,
    /// Since when.
    pub since: Timestamp,
}

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

/// The live jobs of one project that require the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    ready: BTreeSet<Place>,
    /// Those that could start and those in back-off, by since when they wait.
    queued: BTreeSet<(Timestamp, JobId)>,
    running: usize,
}

impl Queue {
    /// Those that could start now, in order.
    #[must_use]
    pub fn ready(&self) -> &BTreeSet<Place> {
        &self.ready
    }

    /// How many wait, those in back-off included.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.queued.len()
    }

    /// How many a runner has, started or not.
    #[must_use]
    pub fn running(&self) -> usize {
        self.running
    }

    /// Since when the one waits that has waited longest.
    #[must_use]
    pub fn oldest_queued(&self) -> Option<Timestamp> {
        self.queued.first().map(|(since, _)| *since)
    }
}

/// Queues and the times at which queued jobs need attention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queues {
    /// None of them is empty.
    queues: BTreeMap<Requirements, BTreeMap<String, Queue>>,
    queued: usize,
    /// Jobs in back-off, by its end.
    backoff: BTreeSet<(Timestamp, JobId)>,
    /// Jobs with a limit on their wait, by its end.
    deadlines: BTreeSet<(Timestamp, JobId)>,
}

impl Queues {
    /// Puts a live job where it belongs.
    pub(crate) fn insert(&mut self, job: &Job) {
        let Phase::Queued { not_before } = job.phase else {
            self.with_queue_of(job, |queue| queue.running += 1);
            return;
        };
        self.queued += 1;
        self.backoff.extend(not_before.map(|time| (time, job.id)));
        self.deadlines.extend(job.queue_deadline().map(|deadline| (deadline, job.id)));
        self.with_queue_of(job, |queue| {
            queue.queued.insert((job.waits_since(), job.id));
            if not_before.is_none() {
                queue.ready.insert(Place::of(job));
            }
        });
    }

    fn with_queue_of(&mut self, job: &Job, change: impl FnOnce(&mut Queue)) {
        let JobSpec { requirements, project, .. } = &*job.spec;
        let known = self.queues.get_mut(requirements).and_then(|queues| queues.get_mut(project));
        if let Some(queue) = known {
            change(queue);
        } else {
            let queues = self.queues.entry(requirements.clone()).or_default();
            change(queues.entry(project.clone()).or_default());
        }
    }

    /// Takes a live job out, given as it was when it was put in.
    pub(crate) fn remove(&mut self, job: &Job) {
        let JobSpec { requirements, project, .. } = &*job.spec;
        let Some(queues) = self.queues.get_mut(requirements) else { return };
        let Some(queue) = queues.get_mut(project) else { return };
        if let Phase::Queued { not_before } = job.phase {
            queue.queued.remove(&(job.waits_since(), job.id));
            queue.ready.remove(&Place::of(job));
            self.queued -= 1;
            if let Some(time) = not_before {
                self.backoff.remove(&(time, job.id));
            }
            if let Some(deadline) = job.queue_deadline() {
                self.deadlines.remove(&(deadline, job.id));
            }
        } else {
            queue.running -= 1;
        }
        if *queue == Queue::default() {
            queues.remove(project);
        }
        if queues.is_empty() {
            self.queues.remove(requirements);
        }
    }

    /// All that have jobs: by requirements, and below that by project.
    pub fn iter(&self) -> impl Iterator<Item = (&Requirements, &BTreeMap<String, Queue>)> {
        self.queues.iter()
    }

    /// Those with these requirements, by project.
    pub fn of(&self, requirements: &Requirements) -> impl Iterator<Item = (&str, &Queue)> {
        let queues = self.queues.get(requirements);
        queues.into_iter().flatten().map(|(project, queue)| (project.as_str(), queue))
    }

    /// Queued jobs, those in back-off included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queued
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
