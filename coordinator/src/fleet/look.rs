//! What takes longer to find out than an answer may wait: how the members and the queues are, who
//! waits for a runner that there is not, how many dead letters there are. Looked at now and then, once for
//! all streams, and only while there are any.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use baton_proto::{time::timestamp_from_millis, v1};
use baton_state::{
    JobId, Queue, Timestamp,
    explain::{self, WaitReason},
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use super::overview::alert;
use crate::{convert::queues_to_proto, jobs::Jobs, roster::Roster};

/// The time between two looks.
const EVERY: Duration = Duration::from_secs(2);
/// What is older was found when somebody else watched.
const FRESH_FOR: Duration = Duration::from_secs(10);
/// Queues whose first job is looked at.
const QUEUES: usize = 200;
/// Dead letters that are counted.
const DEAD_LETTERS: u32 = 100_000;

/// What was found.
#[derive(Clone, Debug, Default)]
pub(super) struct Look {
    /// When; none if nobody has looked yet.
    at: Option<Instant>,
    pub(super) members: v1::Members,
    pub(super) queues: v1::ListQueuesResponse,
    pub(super) oldest_queued: Option<prost_types::Timestamp>,
    pub(super) dead_letters: u64,
    pub(super) alerts: Vec<v1::Alert>,
}

impl Look {
    /// It is not from a time when nobody watched.
    pub(super) fn is_fresh(&self) -> bool {
        self.at.is_some_and(|at| at.elapsed() <= FRESH_FOR)
    }
}

/// Where to see what was found. Clones see the same.
#[derive(Clone)]
pub(crate) struct Looks {
    newest: Arc<watch::Sender<Arc<Look>>>,
    wanted: Arc<Notify>,
}

/// Looks as long as somebody wants to know.
pub(crate) struct Looking {
    looks: Looks,
    /// Since when something has been so that only this look tells, by what it is about.
    since: BTreeMap<String, Timestamp>,
}

impl Looks {
    pub(crate) fn new() -> (Self, Looking) {
        let looks = Self { newest: Arc::default(), wanted: Arc::default() };
        (looks.clone(), Looking { looks, since: BTreeMap::new() })
    }

    /// What was found, as it changes.
    pub(super) fn follow(&self) -> watch::Receiver<Arc<Look>> {
        let looks = self.newest.subscribe();
        self.wanted.notify_one();
        looks
    }
}

impl Looking {
    /// Until `stop`.
    pub(crate) async fn run(mut self, jobs: Jobs, roster: Roster, stop: CancellationToken) {
        let looking = async {
            loop {
                if self.looks.newest.receiver_count() == 0 {
                    self.since.clear();
                    self.looks.wanted.notified().await;
                    continue;
                }
                let look = self.look(&jobs, &roster).await;
                self.looks.newest.send_replace(Arc::new(look));
                sleep(EVERY).await;
            }
        };
        stop.run_until_cancelled(looking).await;
    }

    async fn look(&mut self, jobs: &Jobs, roster: &Roster) -> Look {
        let members = roster.statuses().await;
        let dead_letters = jobs.history.dead_letters(DEAD_LETTERS).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot count dead letters");
            self.looks.newest.borrow().dead_letters
        });
        let now = jobs.environment.clock.now();
        let mut alerts = self.of_members(&members, jobs, now);
        alerts.extend(without_runner(jobs, now));
        let queues = queues_to_proto(jobs.queues());
        let oldest_queued = oldest_queued(jobs);
        Look { at: Some(Instant::now()), members, queues, oldest_queued, dead_letters, alerts }
    }

    /// What is wrong with the members, and since when that is known.
    fn of_members(&mut self, members: &v1::Members, jobs: &Jobs, now: Timestamp) -> Vec<v1::Alert> {
        let mut found = Vec::new();
        for status in &members.members {
            let node = status.member.as_ref().map_or(0, |member| member.node_id);
            let subject = format!("member:{node}");
            if !status.reachable {
                let message = format!("coordinator {node} does not answer");
                found.push((v1::AlertLevel::Critical, subject.clone(), message));
            }
            if !status.problem.is_empty() {
                let message = format!("coordinator {node}: {}", status.problem);
                found.push((v1::AlertLevel::Warning, subject, message));
            }
        }
        if let Err(full) = jobs.disk.check() {
            let subject = format!("member:{}", members.leader_id);
            found.push((v1::AlertLevel::Critical, subject, full.message));
        }
        let key =
            |level: v1::AlertLevel, subject: &str| format!("{subject} {}", level.as_str_name());
        let known: Vec<_> = found.iter().map(|(level, subject, _)| key(*level, subject)).collect();
        self.since.retain(|key, _| known.contains(key));
        let with_time = found.into_iter().map(|(level, subject, message)| {
            let since = *self.since.entry(key(level, &subject)).or_insert(now);
            alert(level, subject, message, since)
        });
        with_time.collect()
    }
}

/// Jobs that no runner will take as things are, the first of each queue.
fn without_runner(jobs: &Jobs, now: Timestamp) -> Vec<v1::Alert> {
    let first: Vec<(JobId, usize)> = {
        let state = jobs.raft.state();
        let queues = state.queues().iter().flat_map(|(_, projects)| projects.values());
        let waiting = queues.map(Queue::ready).filter_map(|it| Some((it.first()?.job, it.len())));
        waiting.take(QUEUES).collect()
    };
    let stuck = first.into_iter().filter_map(|(id, count)| {
        // Each under a lock of its own: the look at one asks all runners.
        let state = jobs.raft.state();
        let job = state.job(id)?;
        let waiting = explain::explain(&state, id, now)?;
        let level = match waiting.reason {
            WaitReason::NoRunner
            | WaitReason::NoRunnerWithLabels
            | WaitReason::NoRunnerWithExecutor
            | WaitReason::RunnersTooOld
            | WaitReason::RunnersUnreachable
            | WaitReason::ExecutorUnhealthy => v1::AlertLevel::Critical,
            WaitReason::RunnersCordoned => v1::AlertLevel::Warning,
            WaitReason::SlotsBusy
            | WaitReason::BehindOthers
            | WaitReason::QueuePaused
            | WaitReason::Backoff
            | WaitReason::Starting => return None,
        };
        let jobs = if count == 1 { "1 job waits".to_owned() } else { format!("{count} jobs wait") };
        let subject = format!("queue:{}", job.spec.project);
        let message = format!("{jobs}: {}", waiting.message);
        Some(alert(level, subject, message, job.waits_since()))
    });
    stuck.collect()
}

/// Since when the job waits that has waited longest.
fn oldest_queued(jobs: &Jobs) -> Option<prost_types::Timestamp> {
    let state = jobs.raft.state();
    let queues = state.queues().iter().flat_map(|(_, projects)| projects.values());
    let oldest = queues.filter_map(Queue::oldest_queued).min()?;
    Some(timestamp_from_millis(oldest.0))
}
