//! Queues: what is shown of them, and their pause.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use baton_proto::error::ApiError;
use baton_state::{
    Command, Connection, Event, EventKind, Index, Paused, QueueName, Requirements, State,
    Timestamp,
    command::{PauseQueue, ResumeQueue},
};

use crate::{
    jobs::{Caller, Jobs},
    raft::Observer,
    runners::Asked,
};

/// Queues that are shown.
const SHOWN: usize = 1_000;

/// One queue as it is now.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct QueueStatus {
    pub(crate) name: QueueName,
    /// Jobs that wait, those in back-off included.
    pub(crate) queued: usize,
    /// Jobs that a runner has.
    pub(crate) running: usize,
    /// Since when the job waits that has waited longest.
    pub(crate) oldest_queued: Option<Timestamp>,
    /// Jobs that a runner got in the last minute.
    pub(crate) started: u64,
    /// Runners that could take its jobs, were they free.
    pub(crate) runners: usize,
    pub(crate) paused: Option<Paused>,
}

impl Jobs {
    /// The queues that have jobs or are paused: the paused ones first, so that each can be
    /// found, then the longest; and how many more there are than are shown.
    pub(crate) fn queues(&self) -> (Vec<QueueStatus>, usize) {
        let all = merged(&self.raft.state());
        let mut all: Vec<_> = all.into_values().collect();
        all.sort_by_key(|(queue, _)| (queue.paused.is_none(), std::cmp::Reverse(queue.queued)));
        let more = all.len().saturating_sub(SHOWN);
        all.truncate(SHOWN);
        let now = self.environment.clock.now();
        let mut runners: BTreeMap<Requirements, usize> = BTreeMap::new();
        let filled = all.into_iter().map(|(mut queue, requirements)| {
            // Projects mostly require the same. The lock is taken for each anew, so that
            // nobody waits for all of them.
            let count = runners.entry(requirements);
            queue.runners = *count.or_insert_with_key(|it| takers(&self.raft.state(), it));
            queue.started = self.rates.of(&queue.name, now);
            queue
        });
        (filled.collect(), more)
    }

    /// Keeps the jobs of a queue waiting.
    pub(crate) async fn pause_queue(
        &self,
        caller: &Caller,
        queue: QueueName,
    ) -> Result<(), ApiError> {
        let changed = self.change_fleet(caller, |_, asked| {
            let (queue, Asked { at, by, request, history_seen }) = (queue.clone(), asked);
            Ok((Command::PauseQueue(PauseQueue { queue, at, by, request, history_seen }), None))
        });
        changed.await.map(drop)
    }

    /// Gives jobs of a queue to runners again.
    pub(crate) async fn resume_queue(
        &self,
        caller: &Caller,
        queue: QueueName,
    ) -> Result<(), ApiError> {
        let changed = self.change_fleet(caller, |_, asked| {
            let (queue, Asked { at, by, request, history_seen }) = (queue.clone(), asked);
            Ok((Command::ResumeQueue(ResumeQueue { queue, at, by, request, history_seen }), None))
        });
        changed.await.map(drop)
    }
}

/// All queues, each with what the newest of its jobs require: jobs of all levels are in one.
fn merged(state: &State) -> BTreeMap<QueueName, (QueueStatus, Requirements)> {
    let mut all = BTreeMap::new();
    for (requirements, projects) in state.queues().iter() {
        for (project, queue) in projects {
            let name = QueueName::of(project, requirements);
            let (status, newest) = all.entry(name).or_insert_with_key(empty);
            status.queued += queue.queued();
            status.running += queue.running();
            let both = [status.oldest_queued, queue.oldest_queued()];
            status.oldest_queued = both.into_iter().flatten().min();
            newest.level = newest.level.max(requirements.level);
        }
    }
    for (name, paused) in state.paused() {
        let (status, _) = all.entry(name.clone()).or_insert_with_key(empty);
        status.paused = Some(paused.clone());
    }
    all
}

fn empty(name: &QueueName) -> (QueueStatus, Requirements) {
    let status = QueueStatus {
        name: name.clone(),
        queued: 0,
        running: 0,
        oldest_queued: None,
        started: 0,
        runners: 0,
        paused: None,
    };
    let QueueName { labels, executor, .. } = name.clone();
    (status, Requirements { labels, executor, ..Requirements::default() })
}

/// Runners online that could take a job with these requirements, were they free.
fn takers(state: &State, requirements: &Requirements) -> usize {
    let runners = state.runners().values();
    let able = runners.filter(|runner| {
        runner.connection == Connection::Online
            && runner.takes_jobs()
            && runner.offers(requirements)
            && runner.ailment(requirements).is_none()
    });
    able.count()
}

/// Seconds that are counted.
const WINDOW: u64 = 60;

/// How many jobs of each queue runners got in the last minute.
#[derive(Default)]
pub(crate) struct Rates(Mutex<HashMap<QueueName, Granted>>);

/// Seconds, as whoever granted tells the time, and how many jobs were granted in each.
#[derive(Default)]
struct Granted(VecDeque<(u64, u64)>);

impl Rates {
    fn of(&self, queue: &QueueName, now: Timestamp) -> u64 {
        self.lock().get(queue).map_or(0, |granted| granted.within(now.0 / 1000))
    }

    fn add(&self, queue: QueueName, at: Timestamp) {
        let (mut all, second) = (self.lock(), at.0 / 1000);
        // Those of which nothing more comes go when there are many.
        if all.len() >= 1024 && all.len().is_power_of_two() {
            all.retain(|_, granted| granted.within(second) > 0);
        }
        all.entry(queue).or_default().add(second);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<QueueName, Granted>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Granted {
    fn add(&mut self, second: u64) {
        while self.0.front().is_some_and(|(first, _)| first + WINDOW <= second) {
            self.0.pop_front();
        }
        match self.0.back_mut() {
            // Another leader's clock may be behind.
            Some((last, jobs)) if *last >= second => *jobs += 1,
            Some(_) | None => self.0.push_back((second, 1)),
        }
    }

    fn within(&self, now: u64) -> u64 {
        let counted = self.0.iter().filter(|(second, _)| second + WINDOW > now);
        counted.map(|(_, jobs)| jobs).sum()
    }
}

impl Observer for Rates {
    fn applied(&self, _through: Index, state: &State, events: &[Event]) {
        for event in events {
            if let EventKind::JobLeased { job, .. } = &event.kind
                && let Some(job) = state.job(*job)
            {
                let name = QueueName::of(&job.spec.project, &job.spec.requirements);
                self.add(name, event.at);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use baton_proto::v1;
    use baton_state::{JobId, Level, command::Submit};

    use super::*;
    use crate::convert::spec_from_proto;

    fn submit(state: &mut State, spec: v1::JobSpec) {
        let index = state.applied() + 1;
        let command = vec!["true".to_owned()];
        let spec = spec_from_proto(v1::JobSpec { command, ..spec }).unwrap().into();
        let at = Timestamp(index);
        let (id, by) = (JobId::new(at, 0), String::new());
        let (retry_of, request, history_seen) = (None, None, index);
        let submit = Submit { id, spec, at, by, retry_of, request, history_seen };
        state.apply(index, Command::Submit(submit)).0.unwrap();
    }

    #[test]
    fn jobs_of_all_levels_are_in_one_queue_and_paused_queues_are_there_without_jobs() {
        let mut state = State::default();
        let project = |project: &str| v1::JobSpec { project: project.into(), ..Default::default() };
        submit(&mut state, project("a"));
        let env = [("TOKEN".to_owned(), "secret".to_owned())].into();
        let masks = vec!["TOKEN".to_owned()];
        submit(&mut state, v1::JobSpec { env, masks, ..project("a") });
        submit(&mut state, project("b"));
        let queue = QueueName::of("c", &Requirements::default());
        let (at, by, request) = (Timestamp(9), "ann".to_owned(), None);
        let pause = PauseQueue { queue, at, by, request, history_seen: 4 };
        state.apply(4, Command::PauseQueue(pause)).0.unwrap();

        let all = merged(&state).into_values();
        let told = all.map(|(queue, requirements)| {
            let paused = queue.paused.map(|paused| paused.by);
            let oldest = queue.oldest_queued.map(|since| since.0);
            (queue.name.project, queue.queued, oldest, requirements.level, paused)
        });
        let (none, newer) = (Level::default(), Level(3));
        let expected = [
            ("a".to_owned(), 2, Some(1), newer, None),
            ("b".to_owned(), 1, Some(3), none, None),
            ("c".to_owned(), 0, None, none, Some("ann".to_owned())),
        ];
        assert!(told.eq(expected));
    }

    #[test]
    fn what_was_granted_counts_for_a_minute() {
        let rates = Rates::default();
        let queue = |project: &str| QueueName::of(project, &Requirements::default());
        let at = |second: u64| Timestamp(second * 1000 + 5);
        for second in [100, 100, 130, 128, 159] {
            rates.add(queue("a"), at(second));
        }
        assert_eq!(rates.of(&queue("a"), at(159)), 5);
        assert_eq!(rates.of(&queue("a"), at(160)), 3, "those of second 100 are over");
        assert_eq!(rates.of(&queue("a"), at(300)), 0);
        assert_eq!(rates.of(&queue("b"), at(159)), 0);
    }

    #[test]
    fn queues_without_grants_are_forgotten() {
        let rates = Rates::default();
        for number in 0..5_000_u64 {
            let name = QueueName::of(&number.to_string(), &Requirements::default());
            rates.add(name, Timestamp(number * 10_000));
        }
        assert!(rates.lock().len() < 2_000);
    }
}
