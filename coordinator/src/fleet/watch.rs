//! Fleet.Watch: one task for each stream, which tells what was asked for, and then what changes
//! of it, at most once an interval.

use std::time::Duration;

use baton_proto::{error::ApiError, time::timestamp_from_millis, v1};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until, timeout},
};

use super::{
    Fleet, event_tail::EventTail, job_window::JobWindow, overview::overview,
    runner_list::RunnerList,
};
use crate::{
    errors::{from_propose, stopping},
    history::{EventFilter, JobFilter},
};

/// An answer comes at least so often.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// How often heartbeats are looked at, of which nobody tells.
const POLL: Duration = Duration::from_secs(1);
/// How long the first answer waits to say how the members are.
const LOOK_WITHIN: Duration = Duration::from_secs(1);

/// What a caller wants to see.
pub(crate) struct Asked {
    pub(crate) overview: bool,
    pub(crate) queues: bool,
    pub(crate) jobs: Option<JobsAsked>,
    pub(crate) runners: bool,
    pub(crate) members: bool,
    pub(crate) events: Option<EventsAsked>,
    pub(crate) interval: Duration,
}

/// Which jobs.
pub(crate) struct JobsAsked {
    pub(crate) filter: JobFilter,
    pub(crate) limit: usize,
}

/// Which events.
pub(crate) struct EventsAsked {
    pub(crate) filter: EventFilter,
    pub(crate) limit: usize,
}

impl Fleet {
    /// Tells it until the caller leaves.
    pub(crate) async fn watch(
        self,
        asked: Asked,
        answers: mpsc::Sender<v1::WatchFleetResponse>,
    ) -> Result<(), ApiError> {
        // Before anything is looked at, so that no later change is missed.
        let mut journal = self.journal.read();
        self.jobs.raft.read_barrier().await.map_err(from_propose)?;
        let mut looks =
            (asked.overview || asked.queues || asked.members).then(|| self.looks.follow());
        if let Some(looks) = &mut looks {
            // What is not there in time is told as soon as it is.
            let _ = timeout(LOOK_WITHIN, looks.wait_for(|look| look.is_fresh())).await;
        }
        let mut jobs = asked.jobs.map(JobWindow::new);
        let mut events = asked.events.map(EventTail::new);
        let mut runners = asked.runners.then(|| RunnerList::new(Instant::now()));
        let mut told_overview = v1::Overview::default();
        let mut told_queues = None;
        let mut told_members = v1::Members::default();
        let mut told_at = None;
        loop {
            let now = Instant::now();
            let news = journal.news();
            let mut answer = v1::WatchFleetResponse::default();
            if let Some(looks) = &mut looks {
                let look = looks.borrow_and_update().clone();
                if asked.overview {
                    let overview = overview(&self, &look);
                    answer.overview = newer(overview, &mut told_overview);
                }
                if asked.queues && look.is_fresh() {
                    answer.queues = newer(Some(look.queues.clone()), &mut told_queues).flatten();
                }
                if asked.members && look.is_fresh() {
                    answer.members = newer(look.members.clone(), &mut told_members);
                }
            }
            if let Some(jobs) = &mut jobs {
                answer.jobs = jobs.changes(&self.jobs, &news).await?;
            }
            if let Some(runners) = &mut runners {
                answer.runners = runners.changes(&self, &news, now);
            }
            if let Some(events) = &mut events {
                answer.events = events.changes(&self, &news).await?;
            }
            let is_due = told_at.is_none_or(|told| told + KEEP_ALIVE <= now);
            if is_due || answer != v1::WatchFleetResponse::default() {
                answer.time = Some(timestamp_from_millis(self.jobs.environment.clock.now().0));
                // A slow reader is waited for; what changes meanwhile is in the journal.
                answers.send(answer).await.map_err(|_| stopping())?;
                told_at = Some(Instant::now());
            }
            sleep_until(now + asked.interval).await;
            let waits = jobs.as_ref().and_then(JobWindow::due).into_iter();
            let waits = waits.chain(events.as_ref().and_then(EventTail::due));
            let waits = waits.chain(told_at.map(|told| told + KEEP_ALIVE));
            let until = waits.fold(Instant::now() + POLL, Instant::min);
            let found = async {
                match &mut looks {
                    // The sender is in the fleet that this has.
                    Some(looks) => drop(looks.changed().await),
                    None => std::future::pending().await,
                }
            };
            if !runners.as_ref().is_some_and(RunnerList::has_more) {
                tokio::select! {
                    () = journal.changed() => {}
                    () = found => {}
                    () = sleep_until(until) => {}
                }
            }
        }
    }
}

/// What is to be told if it is other than what was told.
fn newer<T: Clone + PartialEq>(now: T, told: &mut T) -> Option<T> {
    (*told != now).then(|| {
        told.clone_from(&now);
        now
    })
}
