//! The state itself: jobs, runners, requests, and what follows from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use crate::{
    command::{self, Command, Refusal, Reply},
    event::{Event, EventKind},
    ids::{Index, JobId, NodeId, RunnerId, Timestamp},
    job::{Job, Phase},
    member::{Level, Member},
    queue::{Paused, QueueName, Queues},
    runner::Runner,
    secret::JobTokenKey,
    spec::Requirements,
};

/// What the cluster agrees on. Holds what is live: a finished job stays only
/// until the history has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(crate) applied: Index,
    /// The last entry that evicted something.
    pub(crate) evicted_at: Index,
    /// What was evicted had ended by this entry, or was taken by it.
    pub(crate) evicted_through: Index,
    /// Empty until the cluster is founded.
    pub(crate) cluster_id: String,
    pub(crate) members: BTreeMap<NodeId, Member>,
    /// The last number that was given to a member.
    pub(crate) newest_node: NodeId,
    /// What every member knew at some time; never falls.
    pub(crate) level: Level,
    /// None until every member knows of it, and then always the same.
    pub(crate) job_token_key: Option<JobTokenKey>,
    /// Shared with the events about their ends and with copies of the state.
    pub(crate) jobs: BTreeMap<JobId, Arc<Job>>,
    pub(crate) runners: BTreeMap<RunnerId, Runner>,
    pub(crate) requests: BTreeMap<String, ([u8; 32], JobId)>,
    /// The keys among those that were taken after their job's end, by the entry
    /// that did it. The job may have been evicted.
    pub(crate) late: BTreeMap<Index, String>,
    /// Requests about runners and queues, by key.
    pub(crate) fleet_requests: BTreeMap<String, FleetRequest>,
    /// Queues whose jobs are kept waiting; they may be empty.
    pub(crate) paused: BTreeMap<QueueName, Paused>,
    // What follows from the jobs.
    pub(crate) queues: Queues,
    pub(crate) finished: BTreeSet<(Index, JobId)>,
    pub(crate) leased: usize,
}

/// A request that was carried out: its idempotency key is taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// The idempotency key, with the caller's name before it.
    pub key: String,
    /// A hash of the request.
    pub digest: [u8; 32],
}

/// A request about a runner or a queue that was carried out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FleetRequest {
    /// The entry that did it.
    pub index: Index,
    /// A hash of the request.
    pub digest: [u8; 32],
    /// Which runner; none for a queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<RunnerId>,
}

/// One entry's effects, as they are gathered.
pub(crate) struct Applying<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) index: Index,
    pub(crate) at: Timestamp,
    events: Vec<Event>,
}

impl Applying<'_> {
    pub(crate) fn emit(&mut self, kind: EventKind) {
        let ordinal = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
        self.events.push(Event { index: self.index, ordinal, at: self.at, kind });
    }
}

impl State {
    /// Carries out one entry of the log. A refused command changes nothing
    /// besides [`State::applied`].
    ///
    /// # Panics
    /// As [`State::skip`] does.
    pub fn apply(
        &mut self,
        index: Index,
        command: Command,
    ) -> (Result<Reply, Refusal>, Vec<Event>) {
        self.skip(index);
        let at = command.at();
        let mut applying = Applying { state: self, index, at, events: Vec::new() };
        let reply = command::apply(&mut applying, command);
        (reply, applying.events)
    }

    /// Notes an entry that carries no command.
    ///
    /// # Panics
    /// When `index` was applied before: going on would give a lease out twice.
    pub fn skip(&mut self, index: Index) {
        assert!(index > self.applied, "entries are applied once and in order");
        self.applied = index;
    }

    /// The last entry that was applied.
    #[must_use]
    pub fn applied(&self) -> Index {
        self.applied
    }

    /// The last entry that evicted jobs or keys: an answer from the history that
    /// is older than this may miss them.
    #[must_use]
    pub fn evicted_at(&self) -> Index {
        self.evicted_at
    }

    /// Everything that was evicted is in a history that has taken the events up to
    /// here: one that has not may miss it.
    #[must_use]
    pub fn evicted_through(&self) -> Index {
        self.evicted_through
    }

    /// Which cluster this is; empty before its first entry.
    #[must_use]
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The coordinators.
    #[must_use]
    pub fn members(&self) -> &BTreeMap<NodeId, Member> {
        &self.members
    }

    /// The newest commands that may be proposed: every member knows them.
    #[must_use]
    pub fn level(&self) -> Level {
        self.level
    }

    /// What the tokens of jobs are made with, once there is one. Nobody else is told.
    #[must_use]
    pub fn job_token_key(&self) -> Option<&JobTokenKey> {
        self.job_token_key.as_ref()
    }

    /// The members are others: perhaps all of them know more.
    pub(crate) fn raise_level(&mut self) {
        let known_to_all = self.members.values().map(|member| member.level).min();
        self.level = self.level.max(known_to_all.unwrap_or_default());
    }

    /// The number that the next coordinator gets.
    #[must_use]
    pub fn next_node(&self) -> NodeId {
        NodeId(self.newest_node.0 + 1)
    }

    /// One job, live or not yet evicted.
    #[must_use]
    pub fn job(&self, id: JobId) -> Option<&Job> {
        self.jobs.get(&id).map(|job| &**job)
    }

    /// All jobs here, oldest first.
    #[must_use]
    pub fn jobs(&self) -> &BTreeMap<JobId, Arc<Job>> {
        &self.jobs
    }

    /// One runner.
    #[must_use]
    pub fn runner(&self, id: &RunnerId) -> Option<&Runner> {
        self.runners.get(id)
    }

    /// All runners.
    #[must_use]
    pub fn runners(&self) -> &BTreeMap<RunnerId, Runner> {
        &self.runners
    }

    /// The digest of the request that took this key, and the job it made or changed.
    #[must_use]
    pub fn request(&self, key: &str) -> Option<([u8; 32], JobId)> {
        self.requests.get(key).copied()
    }

    /// The request about a runner or a queue that took this key.
    #[must_use]
    pub fn fleet_request(&self, key: &str) -> Option<&FleetRequest> {
        self.fleet_requests.get(key)
    }

    /// The next time at which a [`Command::Tick`] would change something.
    #[must_use]
    pub fn next_due(&self) -> Option<Timestamp> {
        let drains = self.runners.values().filter_map(Runner::drain_due);
        self.queues.next_due().into_iter().chain(drains).min()
    }

    /// Live jobs, by queue.
    #[must_use]
    pub fn queues(&self) -> &Queues {
        &self.queues
    }

    /// Queues whose jobs are kept waiting.
    #[must_use]
    pub fn paused(&self) -> &BTreeMap<QueueName, Paused> {
        &self.paused
    }

    /// Who keeps the jobs of a project with these requirements waiting, if somebody does.
    #[must_use]
    pub fn pause_of(&self, project: &str, requirements: &Requirements) -> Option<&Paused> {
        // Mostly nothing is, and no name has to be made.
        (!self.paused.is_empty())
            .then(|| self.paused.get(&QueueName::of(project, requirements)))
            .flatten()
    }

    /// Leased or running jobs.
    #[must_use]
    pub fn leased(&self) -> usize {
        self.leased
    }

    /// Up to where finished jobs and late keys can be evicted: at most `limit` of
    /// them, none from after `through`. None when there is nothing to evict.
    #[must_use]
    pub fn evictable(&self, through: Index, limit: usize) -> Option<Index> {
        let finished = self.finished.range(..=(through, JobId::MAX)).map(|(index, _)| *index);
        let late = self.late.range(..=through).map(|(index, _)| *index);
        let mut indexes: Vec<Index> = finished.take(limit).chain(late.take(limit)).collect();
        indexes.sort_unstable();
        indexes.truncate(limit);
        indexes.last().copied()
    }

    /// Takes a job out to change it; [`State::put`] brings it back. Between the
    /// two, queues and leases don't know it.
    pub(crate) fn take(&mut self, id: JobId) -> Option<Job> {
        let job = self.jobs.remove(&id)?;
        self.unlink(&job);
        Some(Arc::unwrap_or_clone(job))
    }

    pub(crate) fn put(&mut self, job: impl Into<Arc<Job>>) {
        let job = job.into();
        self.link(&job);
        self.jobs.insert(job.id, job);
    }

    fn unlink(&mut self, job: &Job) {
        match &job.phase {
            Phase::Queued { .. } => self.queues.remove(job),
            Phase::Leased | Phase::Running => {
                self.queues.remove(job);
                self.leased -= 1;
                if let Some(attempt) = job.current()
                    && let Some(runner) = self.runners.get_mut(&attempt.runner)
                {
                    runner.drop_lease(attempt.lease, &job.spec.requirements.executor);
                }
            }
            Phase::Finished { index, .. } => {
                self.finished.remove(&(*index, job.id));
            }
        }
    }

    fn link(&mut self, job: &Job) {
        match &job.phase {
            Phase::Queued { .. } => self.queues.insert(job),
            Phase::Leased | Phase::Running => {
                self.queues.insert(job);
                self.leased += 1;
                if let Some(attempt) = job.current()
                    && let Some(runner) = self.runners.get_mut(&attempt.runner)
                {
                    let executor = &job.spec.requirements.executor;
                    runner.take_lease(attempt.lease, job.id, executor);
                }
            }
            Phase::Finished { index, .. } => {
                self.finished.insert((*index, job.id));
            }
        }
    }

    /// Fills in everything that follows from the jobs, after loading them.
    pub(crate) fn relink(&mut self) {
        self.queues = Queues::default();
        self.finished.clear();
        self.leased = 0;
        for runner in self.runners.values_mut() {
            runner.forget_leases();
        }
        let jobs = mem::take(&mut self.jobs);
        for job in jobs.values() {
            self.link(job);
        }
        self.jobs = jobs;
    }
}
