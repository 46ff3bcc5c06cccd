//! A state with its log: carries out actions and keeps what each led to.

use std::sync::Arc;

use baton_state::{
    ArtifactTree, Command, Connection, Event, EventKind, Executors, Index, Job, JobId, JobTokenKey,
    Lease, Level, Member, NodeId, Phase, Refusal, Reply, Request, RunnerFacts, RunnerId, State,
    Target, Timestamp,
    command::{
        Cancel, CordonRunner, DrainRunner, Evict, Finish, FoundCluster, Grant, LiftQuarantine,
        LoseLease, MarkUnreachable, PauseQueue, PutMember, RegisterRunner, RemoveMember,
        RemoveRunner, ResumeQueue, ResumeRunner, SetHealth, SetJobTokenKey, SetLabels, SetPriority,
        Start, Submit, Tick,
    },
};
use proptest::sample::Index as Pick;

use super::action::{
    Action, BusyPick, GonePick, History, How, JobPick, Key, LeasePick, MemberPick, RunnerPick, Step,
};

/// One entry of the log and what it led to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) index: Index,
    pub(crate) command: Command,
    pub(crate) reply: Result<Reply, Refusal>,
    pub(crate) events: Vec<Event>,
}

pub(crate) struct World {
    pub(crate) state: State,
    pub(crate) log: Vec<Entry>,
    pub(crate) now: Timestamp,
    submitted: u64,
    evicted: Vec<JobId>,
}

impl World {
    pub(crate) fn new() -> Self {
        Self {
            state: State::default(),
            log: Vec::new(),
            now: Timestamp(1_000_000),
            submitted: 0,
            evicted: Vec::new(),
        }
    }

    /// A world after these steps.
    pub(crate) fn after(steps: &[Step]) -> Self {
        let mut world = Self::new();
        for step in steps {
            world.take(step);
        }
        world
    }

    /// Carries out one step.
    pub(crate) fn take(&mut self, step: &Step) -> &Entry {
        self.now = Timestamp(self.now.0.saturating_add_signed(step.elapsed));
        let command = self.command(&step.action);
        self.apply(self.state.applied() + step.entries, command)
    }

    /// Carries out a command at the next index.
    pub(crate) fn next(&mut self, command: Command) -> &Entry {
        self.apply(self.state.applied() + 1, command)
    }

    fn apply(&mut self, index: Index, command: Command) -> &Entry {
        let (reply, events) = self.state.apply(index, command.clone());
        self.evicted.extend(events.iter().filter_map(|event| match event.kind {
            EventKind::JobEvicted { job } => Some(job),
            _ => None,
        }));
        self.log.push(Entry { index, command, reply, events });
        self.log.last().expect("an entry was just added")
    }

    fn history_seen(&self, history: History) -> Index {
        match history {
            History::Now => self.state.applied(),
            History::BeforeTheLastEviction => self.state.evicted_at().saturating_sub(1),
        }
    }

    fn command(&mut self, action: &Action) -> Command {
        let at = self.now;
        match action.clone() {
            Action::Submit { spec, taken_id, key, history } => Command::Submit(Submit {
                id: self.job_id(taken_id),
                spec: Arc::new(*spec),
                at,
                by: "ann".to_owned(),
                retry_of: None,
                request: key.map(request),
                history_seen: self.history_seen(history),
            }),
            Action::Grant { job, runner } => {
                let job = self.job(&job);
                Command::Grant(Grant { job, runner: self.runner(job, &runner), at })
            }
            Action::Start { lease } => {
                let (job, lease) = self.lease(&lease);
                Command::Start(Start { job, lease, at, started_at: at.plus(5) })
            }
            Action::Finish { lease, outcome, log, transient } => {
                let (job, lease) = self.lease(&lease);
                let started_at = transient.then_some(at);
                let finished_at = at.plus(7);
                let artifacts = log.as_ref().filter(|log| log.dropped % 2 == 1);
                let artifacts = artifacts.map(|log| ArtifactTree {
                    digest: "44".repeat(32),
                    size: log.dropped,
                    files: 1,
                    content: log.dropped,
                });
                Command::Finish(Finish {
                    job,
                    lease,
                    at,
                    started_at,
                    finished_at,
                    outcome: *outcome,
                    log,
                    transient,
                    artifacts,
                })
            }
            Action::Cancel { job, key, history } => {
                let job = self.job(&job);
                Command::Cancel(Cancel {
                    job,
                    at,
                    by: "bob".to_owned(),
                    reason: String::new(),
                    request: key.map(request),
                    history_seen: self.history_seen(history),
                    in_history: self.evicted.contains(&job),
                })
            }
            Action::Lose { lease, cause } => {
                let (job, lease) = self.lease(&lease);
                Command::LoseLease(LoseLease { job, lease, at, cause })
            }
            Action::Register { runner, labels, slots, boot, how, level } => {
                let labels = labels.into_iter().map(str::to_owned).collect();
                let facts = RunnerFacts {
                    id: runner_id(runner),
                    name: format!("runner {runner}"),
                    labels,
                    slots,
                    version: "1".to_owned(),
                    boot_id: format!("boot {boot}"),
                    place: format!("place {boot}"),
                    executors: all_executors(1),
                    ephemeral: how == How::Ephemeral,
                    leaving: how == How::Leaving,
                    level: Level(level),
                };
                Command::RegisterRunner(RegisterRunner { facts, at })
            }
            Action::Unreachable { runner } => {
                Command::MarkUnreachable(MarkUnreachable { runner: runner_id(runner), at })
            }
            Action::Health { runner, unhealthy } => {
                let problem = |name: &str| (name.to_owned(), format!("no {name}"));
                let unhealthy = unhealthy.into_iter().map(problem).collect();
                Command::SetHealth(SetHealth { runner: runner_id(runner), unhealthy, at })
            }
            Action::RemoveRunner { runner, left, key, history } => {
                Command::RemoveRunner(RemoveRunner {
                    runner: self.gone(&runner),
                    at,
                    request: key.map(|key| of_call(key, 2)),
                    history_seen: self.history_seen(history),
                    left,
                    by: String::new(),
                })
            }
            Action::Cordon { runner, key, history } => Command::CordonRunner(CordonRunner {
                runner: runner_id(runner),
                at,
                by: "ann".to_owned(),
                request: key.map(|key| of_call(key, 4)),
                history_seen: self.history_seen(history),
            }),
            Action::Drain { runner, deadline, then, key } => Command::DrainRunner(DrainRunner {
                runner: self.busy(&runner),
                at,
                by: "bob".to_owned(),
                deadline: deadline.map(|after| at.plus(after)),
                then,
                request: key.map(|key| of_call(key, 6)),
                history_seen: self.state.applied(),
            }),
            Action::Resume { runner, key, history } => Command::ResumeRunner(ResumeRunner {
                runner: runner_id(runner),
                at,
                request: key.map(|key| of_call(key, 8)),
                history_seen: self.history_seen(history),
                by: "bob".to_owned(),
            }),
            Action::Labels { runner, grant, hide, key } => Command::SetLabels(SetLabels {
                runner: runner_id(runner),
                at,
                grant: grant.into_iter().map(str::to_owned).collect(),
                hide: hide.into_iter().map(str::to_owned).collect(),
                request: key.map(|key| of_call(key, 10)),
                history_seen: self.state.applied(),
                by: "bob".to_owned(),
            }),
            Action::Priority { job, priority, key, history } => Command::SetPriority(SetPriority {
                job: self.job(&job),
                priority,
                at,
                by: "bob".to_owned(),
                request: key.map(|key| of_call(key, 12)),
                history_seen: self.history_seen(history),
            }),
            Action::PauseQueue { queue, key, history } => Command::PauseQueue(PauseQueue {
                queue,
                at,
                by: "ann".to_owned(),
                request: key.map(|key| of_call(key, 14)),
                history_seen: self.history_seen(history),
            }),
            Action::ResumeQueue { queue, key, history } => Command::ResumeQueue(ResumeQueue {
                queue,
                at,
                by: "bob".to_owned(),
                request: key.map(|key| of_call(key, 16)),
                history_seen: self.history_seen(history),
            }),
            Action::Lift { runner, key, history } => Command::LiftQuarantine(LiftQuarantine {
                runner: runner_id(runner),
                at,
                by: "ann".to_owned(),
                request: key.map(|key| of_call(key, 18)),
                history_seen: self.history_seen(history),
            }),
            Action::Tick { elapsed } => {
                self.now = at.plus(elapsed);
                Command::Tick(Tick { at: self.now })
            }
            Action::Evict { age } => {
                Command::Evict(Evict { through: self.state.applied().saturating_sub(age), at })
            }
            Action::FoundCluster => Command::FoundCluster(FoundCluster {
                cluster_id: "cluster".to_owned(),
                node: NodeId(1),
                member: member(0, 0),
                at,
            }),
            // A cluster is founded before anybody joins it.
            Action::PutMember { .. } | Action::RemoveMember { .. }
                if self.state.members().is_empty() =>
            {
                self.command(&Action::FoundCluster)
            }
            Action::PutMember { node, instance, version } => {
                let member = member(instance, version);
                Command::PutMember(PutMember { node: self.node(node), member, at })
            }
            Action::RemoveMember { node } => {
                Command::RemoveMember(RemoveMember { node: self.node(node), at })
            }
            Action::JobTokenKey { byte } => {
                let key = JobTokenKey::new([byte; 32]);
                Command::SetJobTokenKey(SetJobTokenKey { key, at })
            }
        }
    }

    fn node(&self, pick: MemberPick) -> NodeId {
        match pick {
            MemberPick::Next => self.state.next_node(),
            MemberPick::Any(node) => NodeId(node.into()),
        }
    }

    /// A new id, or one that a live job has.
    fn job_id(&mut self, taken: Option<Pick>) -> JobId {
        let taken = taken.and_then(|pick| chosen(pick, self.state.jobs().keys()));
        taken.copied().unwrap_or_else(|| {
            self.submitted += 1;
            // The low bits run backwards, so that ids and arrivals sort differently.
            JobId::new(Timestamp(1_000_000), u128::from(u64::MAX - self.submitted))
        })
    }

    fn job(&self, pick: &JobPick) -> JobId {
        let jobs = self.state.jobs().values().map(|job| &**job);
        let job = match pick {
            JobPick::Ready(pick) => {
                chosen(*pick, jobs.filter(|job| job.phase == Phase::Queued { not_before: None }))
            }
            JobPick::Leased(pick) => chosen(*pick, jobs.filter(|job| job.lease().is_some())),
            JobPick::Finished(pick) => chosen(*pick, jobs.filter(|job| job.is_finished())),
            JobPick::Any(pick) => chosen(*pick, jobs),
            JobPick::Evicted(pick) => {
                return chosen(*pick, self.evicted.iter()).copied().unwrap_or_else(unknown_job);
            }
            JobPick::Unknown => None,
        };
        job.map_or_else(unknown_job, |job| job.id)
    }

    fn runner(&self, job: JobId, pick: &RunnerPick) -> RunnerId {
        let suited = match (pick, self.state.job(job)) {
            (RunnerPick::Suited(pick), Some(job)) => {
                let runners = self.state.runners().values();
                chosen(
                    *pick,
                    runners.filter(|runner| {
                        runner.offers(&job.spec.requirements)
                            && runner.connection == Connection::Online
                            && runner.takes_jobs()
                            && runner.free_slots() > 0
                    }),
                )
            }
            _ => None,
        };
        match (suited, pick) {
            (Some(runner), _) => runner.facts.id.clone(),
            (None, RunnerPick::Any(number)) => runner_id(*number),
            (None, RunnerPick::Suited(_)) => runner_id(0),
        }
    }

    fn busy(&self, pick: &BusyPick) -> RunnerId {
        let busy = self.state.runners().values().filter(|runner| !runner.leases.is_empty());
        let runner = match pick {
            BusyPick::Holding(pick) => chosen(*pick, busy),
            BusyPick::Any(number) => return runner_id(*number),
        };
        runner.map_or_else(|| runner_id(0), |runner| runner.facts.id.clone())
    }

    fn gone(&self, pick: &GonePick) -> RunnerId {
        let runners = self.state.runners().values();
        let gone = runners.filter(|runner| runner.connection == Connection::Unreachable);
        let runner = match pick {
            GonePick::Unreachable(pick) => chosen(*pick, gone),
            GonePick::Holding(pick) => chosen(*pick, gone.filter(|gone| !gone.leases.is_empty())),
            GonePick::Any(number) => return runner_id(*number),
        };
        runner.map_or_else(|| runner_id(0), |runner| runner.facts.id.clone())
    }

    fn lease(&self, pick: &LeasePick) -> (JobId, Lease) {
        let unknown = (unknown_job(), Lease(1));
        let jobs = || self.state.jobs().values().map(|job| &**job);
        let granted = || jobs().flat_map(|job| job.attempts.iter().map(move |a| (job, a)));
        let of = |(job, attempt): (&Job, &baton_state::Attempt)| (job.id, attempt.lease);
        match pick {
            LeasePick::Live(pick) => {
                chosen(*pick, granted().filter(|(_, attempt)| attempt.outcome.is_none())).map(of)
            }
            LeasePick::Recalled(pick) => {
                let recalled = granted().filter(|(job, _)| job.is_recalled());
                chosen(*pick, recalled.filter(|(_, attempt)| attempt.outcome.is_none())).map(of)
            }
            LeasePick::Ended(pick) => {
                chosen(*pick, granted().filter(|(_, attempt)| attempt.outcome.is_some())).map(of)
            }
            LeasePick::Mixed(job, lease) => chosen(*job, jobs())
                .and_then(|job| chosen(*lease, granted()).map(|(_, a)| (job.id, a.lease))),
            LeasePick::Unknown => None,
        }
        .unwrap_or(unknown)
    }
}

/// Applies a log to a state; gives what each entry led to.
pub(crate) fn replay(state: &mut State, log: &[Entry]) -> Vec<Entry> {
    log.iter()
        .map(|entry| {
            let (reply, events) = state.apply(entry.index, entry.command.clone());
            Entry { index: entry.index, command: entry.command.clone(), reply, events }
        })
        .collect()
}

/// Jobs that finished with this entry, once for each event that says so.
pub(crate) fn finished(entry: &Entry) -> impl Iterator<Item = &Job> {
    entry.events.iter().filter_map(|event| match &event.kind {
        EventKind::JobFinished { job } => Some(&**job),
        _ => None,
    })
}

pub(crate) fn runner_id(number: u8) -> RunnerId {
    RunnerId(format!("runner-{number}"))
}

fn request(key: Key) -> Request {
    Request { key: format!("ann/{}", key.name), digest: [key.digest; 32] }
}

/// As the hash of a request does, its digest tells which call it was.
fn of_call(key: Key, call: u8) -> Request {
    request(Key { digest: key.digest + call, ..key })
}

fn unknown_job() -> JobId {
    JobId::new(Timestamp(1), 1)
}

fn chosen<T>(pick: Pick, from: impl Iterator<Item = T>) -> Option<T> {
    let mut from: Vec<T> = from.collect();
    if from.is_empty() { None } else { Some(from.swap_remove(pick.index(from.len()))) }
}

fn member(instance: u8, version: u8) -> Member {
    Member {
        instance: format!("instance {instance}"),
        address: format!("host{instance}:7700"),
        peer_address: format!("host{instance}:7701"),
        version: version.to_string(),
        level: Level(version.into()),
    }
}

/// Every executor, with this many slots on the only SSH target.
pub(crate) fn all_executors(slots: u32) -> Executors {
    let target = Target { labels: ["far"].map(str::to_owned).into(), slots };
    Executors { local: true, docker: true, targets: [("target".to_owned(), target)].into() }
}
