//! A state with a clock and a log index, and short words for the usual commands.

use std::sync::Arc;

use baton_state::{
    AtDeadline, Command, EventKind, Executors, Final, Index, Job, JobId, JobSpec, Lease, Level,
    OnLost, Outcome, Phase, QueueName, Refusal, Reply, Request, Requirements, RunnerFacts,
    RunnerId, State, Timestamp,
    command::{
        Cancel, CordonRunner, DrainRunner, Evict, Finish, Grant, LiftQuarantine, LoseLease,
        LossCause, MarkUnreachable, PauseQueue, RegisterRunner, RemoveRunner, ResumeQueue,
        ResumeRunner, SetLabels, SetPriority, Start, Submit, Tick,
    },
    invariants,
};

use crate::spec;

/// What a command led to.
pub(crate) type Applied = (Result<Reply, Refusal>, Vec<EventKind>);

pub(crate) struct Fixture {
    pub(crate) state: State,
    pub(crate) now: Timestamp,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self { state: State::default(), now: Timestamp(1_000_000) }
    }

    /// With a runner `r1` that has two slots and no labels.
    pub(crate) fn with_runner() -> Self {
        let mut fixture = Self::new();
        fixture.register("r1", &[], 2);
        fixture
    }

    /// With a job leased to `r1`.
    pub(crate) fn with_lease(spec: JobSpec) -> (Self, JobId, Lease) {
        let mut fixture = Self::with_runner();
        let job = fixture.submit(spec);
        let lease = fixture.grant(job, "r1");
        (fixture, job, lease)
    }

    /// Applies a command; a refused one must have changed nothing.
    pub(crate) fn apply(&mut self, command: Command) -> Applied {
        let mut before = self.state.clone();
        let index = self.state.applied() + 1;
        let (reply, events) = self.state.apply(index, command);
        assert_eq!(invariants::check(&self.state), Ok(()));
        if reply.is_err() {
            before.skip(index);
            assert_eq!(before, self.state);
            assert_eq!(events, []);
        }
        (reply, events.into_iter().map(|event| event.kind).collect())
    }

    /// Applies a command that must be accepted.
    pub(crate) fn accepted(&mut self, command: Command) -> Vec<EventKind> {
        let (reply, events) = self.apply(command);
        assert!(reply.is_ok(), "{reply:?}");
        events
    }

    /// Applies a command that must be refused.
    pub(crate) fn refused(&mut self, command: Command) -> Refusal {
        self.apply(command).0.expect_err("the command is refused")
    }

    pub(crate) fn submission(&self, spec: JobSpec) -> Submit {
        Submit {
            id: JobId::new(self.now, u128::from(self.state.applied())),
            spec: Arc::new(spec),
            at: self.now,
            by: "ann".to_owned(),
            retry_of: None,
            request: None,
            history_seen: self.state.applied(),
        }
    }

    pub(crate) fn submit(&mut self, spec: JobSpec) -> JobId {
        let submission = self.submission(spec);
        let job = submission.id;
        self.accepted(Command::Submit(submission));
        job
    }

    pub(crate) fn grant_of(&self, job: JobId, runner: &str) -> Command {
        Command::Grant(Grant { job, runner: id(runner), at: self.now })
    }

    pub(crate) fn grant(&mut self, job: JobId, runner: &str) -> Lease {
        match self.apply(self.grant_of(job, runner)).0 {
            Ok(Reply::Lease(lease)) => lease,
            other => panic!("{job} was not granted: {other:?}"),
        }
    }

    pub(crate) fn start_of(&self, job: JobId, lease: Lease) -> Command {
        Command::Start(Start { job, lease, at: self.now, started_at: self.now })
    }

    pub(crate) fn finish_of(&self, job: JobId, lease: Lease, state: Final) -> Finish {
        Finish {
            job,
            lease,
            at: self.now,
            started_at: Some(self.now),
            finished_at: self.now,
            outcome: Outcome::without_process(state, "", ""),
            log: None,
            transient: false,
            artifacts: None,
        }
    }

    pub(crate) fn finish(&mut self, job: JobId, lease: Lease, state: Final) -> Vec<EventKind> {
        self.accepted(Command::Finish(self.finish_of(job, lease, state)))
    }

    /// Ends an attempt by an error that the next one may not meet.
    pub(crate) fn finish_transiently(&mut self, job: JobId, lease: Lease) -> Vec<EventKind> {
        let finish = Finish { transient: true, ..self.finish_of(job, lease, Final::Error) };
        self.accepted(Command::Finish(finish))
    }

    pub(crate) fn cancel_of(&self, job: JobId) -> Cancel {
        Cancel {
            job,
            at: self.now,
            by: "bob".to_owned(),
            reason: "tired".to_owned(),
            request: None,
            history_seen: self.state.applied(),
            in_history: false,
        }
    }

    pub(crate) fn cancel(&mut self, job: JobId) -> Vec<EventKind> {
        self.accepted(Command::Cancel(self.cancel_of(job)))
    }

    pub(crate) fn loss_of(&self, job: JobId, lease: Lease, cause: LossCause) -> Command {
        Command::LoseLease(LoseLease { job, lease, at: self.now, cause })
    }

    pub(crate) fn lose(&mut self, job: JobId, lease: Lease, cause: LossCause) -> Vec<EventKind> {
        self.accepted(self.loss_of(job, lease, cause))
    }

    pub(crate) fn facts(runner: &str, labels: &[&str], slots: u32) -> RunnerFacts {
        RunnerFacts {
            id: id(runner),
            name: format!("name of {runner}"),
            labels: labels.iter().map(|label| (*label).to_owned()).collect(),
            slots,
            version: "1".to_owned(),
            boot_id: "boot".to_owned(),
            place: "place".to_owned(),
            executors: Executors::default(),
            ephemeral: false,
            leaving: false,
            level: RunnerFacts::UNSAID,
        }
    }

    pub(crate) fn register(&mut self, runner: &str, labels: &[&str], slots: u32) -> Vec<EventKind> {
        let facts = Self::facts(runner, labels, slots);
        self.accepted(Command::RegisterRunner(RegisterRunner { facts, at: self.now }))
    }

    /// Registers a runner that understands job specifications up to this level.
    pub(crate) fn register_of(&mut self, level: Level, runner: &str) -> Vec<EventKind> {
        let facts = RunnerFacts { level, ..Self::facts(runner, &[], 2) };
        self.accepted(Command::RegisterRunner(RegisterRunner { facts, at: self.now }))
    }

    pub(crate) fn unreachable(&mut self, runner: &str) -> Vec<EventKind> {
        let command = MarkUnreachable { runner: id(runner), at: self.now };
        self.accepted(Command::MarkUnreachable(command))
    }

    pub(crate) fn removal_of(&self, runner: &str) -> RemoveRunner {
        let history_seen = self.state.applied();
        RemoveRunner {
            runner: id(runner),
            at: self.now,
            request: None,
            history_seen,
            left: false,
            by: String::new(),
        }
    }

    pub(crate) fn cordon_of(&self, runner: &str) -> CordonRunner {
        let (by, history_seen) = ("ann".to_owned(), self.state.applied());
        CordonRunner { runner: id(runner), at: self.now, by, request: None, history_seen }
    }

    /// Empties a runner within so many milliseconds.
    pub(crate) fn drain_of(&self, runner: &str, within: u64, then: AtDeadline) -> DrainRunner {
        DrainRunner {
            runner: id(runner),
            at: self.now,
            by: "ann".to_owned(),
            deadline: Some(self.now.plus(within)),
            then,
            request: None,
            history_seen: self.state.applied(),
        }
    }

    pub(crate) fn resume_of(&self, runner: &str) -> ResumeRunner {
        let history_seen = self.state.applied();
        let by = "ann".to_owned();
        ResumeRunner { runner: id(runner), at: self.now, request: None, history_seen, by }
    }

    pub(crate) fn labels_of(&self, runner: &str, grant: &[&str], hide: &[&str]) -> SetLabels {
        let set = |labels: &[&str]| labels.iter().map(|label| (*label).to_owned()).collect();
        SetLabels {
            runner: id(runner),
            at: self.now,
            grant: set(grant),
            hide: set(hide),
            request: None,
            history_seen: self.state.applied(),
            by: "ann".to_owned(),
        }
    }

    pub(crate) fn pause_of(&self, queue: QueueName) -> PauseQueue {
        let (by, history_seen) = ("ann".to_owned(), self.state.applied());
        PauseQueue { queue, at: self.now, by, request: None, history_seen }
    }

    pub(crate) fn resume_queue_of(&self, queue: QueueName) -> ResumeQueue {
        let (by, history_seen) = ("bob".to_owned(), self.state.applied());
        ResumeQueue { queue, at: self.now, by, request: None, history_seen }
    }

    pub(crate) fn priority_of(&self, job: JobId, priority: i32) -> SetPriority {
        let (by, history_seen) = ("ann".to_owned(), self.state.applied());
        SetPriority { job, priority, at: self.now, by, request: None, history_seen }
    }

    pub(crate) fn lift_of(&self, runner: &str) -> LiftQuarantine {
        let (by, history_seen) = ("ann".to_owned(), self.state.applied());
        LiftQuarantine { runner: id(runner), at: self.now, by, request: None, history_seen }
    }

    /// Lets time pass and says so.
    pub(crate) fn tick(&mut self, millis: u64) -> Vec<EventKind> {
        self.now = self.now.plus(millis);
        self.accepted(Command::Tick(Tick { at: self.now }))
    }

    pub(crate) fn evict(&mut self, through: Index) -> Vec<EventKind> {
        self.accepted(Command::Evict(Evict { through, at: self.now }))
    }

    pub(crate) fn job(&self, job: JobId) -> &Job {
        self.state.job(job).expect("the job is in the state")
    }

    /// How the job ended, and whether as a dead letter.
    pub(crate) fn end(&self, job: JobId) -> (&Outcome, bool) {
        match &self.job(job).phase {
            Phase::Finished { outcome, dead_letter, .. } => (outcome, *dead_letter),
            phase => panic!("job {job} has not ended: {phase:?}"),
        }
    }

    pub(crate) fn is_ready(&self, job: JobId) -> bool {
        self.job(job).phase == Phase::Queued { not_before: None }
    }

    /// Jobs that could start, of those without requirements.
    pub(crate) fn queue(&self) -> Vec<JobId> {
        let requirements = Requirements::default();
        let queues = self.state.queues().of(&requirements);
        queues.flat_map(|(_, queue)| queue.ready()).map(|place| place.job).collect()
    }
}

pub(crate) fn id(runner: &str) -> RunnerId {
    RunnerId(runner.to_owned())
}

pub(crate) fn request(key: &str, digest: u8) -> Request {
    Request { key: key.to_owned(), digest: [digest; 32] }
}

pub(crate) fn requiring(labels: &[&str]) -> JobSpec {
    let labels = labels.iter().map(|label| (*label).to_owned()).collect();
    JobSpec { requirements: Requirements { labels, ..Requirements::default() }, ..spec::plain() }
}

/// For runners that understand job specifications of this level.
pub(crate) fn of_level(level: Level) -> JobSpec {
    JobSpec { requirements: Requirements { level, ..Requirements::default() }, ..spec::plain() }
}

pub(crate) fn attempts(attempts: u32) -> JobSpec {
    JobSpec { attempts, ..spec::plain() }
}

pub(crate) fn on_lost(on_lost: OnLost, attempts: u32) -> JobSpec {
    JobSpec { on_lost, attempts, ..spec::plain() }
}

pub(crate) fn names(events: &[EventKind]) -> Vec<&'static str> {
    events.iter().map(EventKind::name).collect()
}
