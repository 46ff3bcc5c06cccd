//! The newest jobs that a caller has chosen, and what becomes of them and of older ones. A stream
//! keeps nothing of them: what changed is in the journal, and how it is in the state.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use baton_proto::{error::ApiError, v1};
use baton_state::{Event, EventKind, Job, JobId};
use tokio::time::Instant;

use super::{journal::News, watch::JobsAsked};
use crate::{convert::job_summary, jobs::Jobs};

/// The least time between two lists.
const LIST_EVERY: Duration = Duration::from_secs(1);
/// A list that takes long, since few of many jobs are chosen, is made so much more rarely.
const REST: u32 = 20;

/// Jobs looked up under one lock.
const LOOKED_UP: usize = 1_000;

pub(super) struct JobWindow {
    asked: JobsAsked,
    /// What the caller knows is not enough to tell changes of.
    is_stale: bool,
    /// Until when no other list is made.
    rests_until: Instant,
}

impl JobWindow {
    pub(super) fn new(asked: JobsAsked) -> Self {
        Self { asked, is_stale: true, rests_until: Instant::now() }
    }

    /// What is to be told now of what has happened.
    pub(super) async fn changes(
        &mut self,
        jobs: &Jobs,
        news: &News,
    ) -> Result<Option<v1::JobChanges>, ApiError> {
        match news {
            News::TooMuch => self.is_stale = true,
            News::Events(_) if self.is_stale => {}
            News::Events(events) => {
                let changes = self.told(jobs, events);
                if changes.changed.len() + changes.gone.len() <= self.asked.limit {
                    let is_empty = changes == v1::JobChanges::default();
                    return Ok((!is_empty).then_some(changes));
                }
                self.is_stale = true;
            }
        }
        if self.rests_until > Instant::now() {
            return Ok(None);
        }
        self.list(jobs).await.map(Some)
    }

    /// When a list is due that had to wait; none when no one has.
    pub(super) fn due(&self) -> Option<Instant> {
        self.is_stale.then_some(self.rests_until)
    }

    async fn list(&mut self, jobs: &Jobs) -> Result<v1::JobChanges, ApiError> {
        let begin = Instant::now();
        let page = jobs.list(&self.asked.filter, JobId::MAX, self.asked.limit).await?;
        self.is_stale = false;
        self.rests_until = Instant::now() + LIST_EVERY.max(begin.elapsed() * REST);
        let changed = page.jobs.iter().map(job_summary).collect();
        Ok(v1::JobChanges { reset: true, changed, gone: Vec::new() })
    }

    /// What these events changed of what the caller may know, the newest first.
    fn told(&self, jobs: &Jobs, events: &[Arc<Event>]) -> v1::JobChanges {
        let matcher = self.asked.filter.matcher();
        let mut changes = v1::JobChanges::default();
        for (id, job) in as_they_are(jobs, events).into_iter().rev() {
            // One that is not found has just left the state: its end is told next.
            let Some(job) = job else { continue };
            if matcher.matches(&job) {
                changes.changed.push(job_summary(&job));
            } else if matcher.may_have_matched(&job) {
                changes.gone.push(id.to_string());
            }
        }
        changes
    }
}

/// The jobs that events are about, as they are now.
fn as_they_are(jobs: &Jobs, events: &[Arc<Event>]) -> BTreeMap<JobId, Option<Arc<Job>>> {
    let mut found: BTreeMap<JobId, Option<Arc<Job>>> = BTreeMap::new();
    for event in events {
        if let EventKind::JobFinished { job } = &event.kind {
            found.insert(job.id, Some(Arc::clone(job)));
        } else if let Some(id) = event.kind.job() {
            found.entry(id).or_default();
        }
    }
    let mut open: Vec<_> = found.iter_mut().filter(|(_, job)| job.is_none()).collect();
    for some in open.chunks_mut(LOOKED_UP) {
        let state = jobs.raft.state();
        for (id, job) in some {
            **job = state.jobs().get(*id).cloned();
        }
    }
    found
}
