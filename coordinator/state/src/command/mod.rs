//! Commands: everything that can be asked of the state, one file each. A
//! command carries every time and id it needs.
//!
//! A field that this version does not know is an error: a node that left it out
//! would come to another state than its peers. Such a node stops instead.

mod cancel;
mod cordon_runner;
mod drain_runner;
mod evict;
mod finish;
mod fleet_request;
mod found_cluster;
mod grant;
mod lift_quarantine;
mod lose_lease;
mod mark_unreachable;
mod pause_queue;
mod put_member;
mod register_runner;
mod remove_member;
mod remove_runner;
mod resume_queue;
mod resume_runner;
mod set_health;
mod set_job_token_key;
mod set_labels;
mod set_priority;
mod start;
mod submit;
mod tick;

use serde::{Deserialize, Serialize};

pub use self::{
    cancel::Cancel,
    cordon_runner::CordonRunner,
    drain_runner::DrainRunner,
    evict::Evict,
    finish::Finish,
    found_cluster::FoundCluster,
    grant::Grant,
    lift_quarantine::LiftQuarantine,
    lose_lease::{LoseLease, LossCause},
    mark_unreachable::MarkUnreachable,
    pause_queue::PauseQueue,
    put_member::PutMember,
    register_runner::RegisterRunner,
    remove_member::RemoveMember,
    remove_runner::RemoveRunner,
    resume_queue::ResumeQueue,
    resume_runner::ResumeRunner,
    set_health::SetHealth,
    set_job_token_key::SetJobTokenKey,
    set_labels::SetLabels,
    set_priority::SetPriority,
    start::Start,
    submit::Submit,
    tick::Tick,
};
pub(crate) use self::{
    fleet_request::REMEMBERED as FLEET_REQUESTS_REMEMBERED, pause_queue::PAUSED_MAX,
    set_labels::LABELS_MAX,
};
use crate::{
    event::EventKind,
    ids::{Index, JobId, Lease, NodeId, Timestamp},
    job::Job,
    member::Level,
    state::{Applying, Request},
};

/// Something to do, as it stands in the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Accept a job.
    Submit(Submit),
    /// Give a job to a runner.
    Grant(Grant),
    /// A job's process has started.
    Start(Start),
    /// An attempt is over.
    Finish(Finish),
    /// Stop a job.
    Cancel(Cancel),
    /// Take a lease away.
    LoseLease(LoseLease),
    /// A runner connected.
    RegisterRunner(RegisterRunner),
    /// A runner no longer answers.
    MarkUnreachable(MarkUnreachable),
    /// Parts of a runner stopped working, or work again.
    SetHealth(SetHealth),
    /// Forget a runner.
    RemoveRunner(RemoveRunner),
    /// Time has passed.
    Tick(Tick),
    /// Forget finished jobs and keys that the history has.
    Evict(Evict),
    /// Begin a cluster.
    FoundCluster(FoundCluster),
    /// Admit a coordinator, or note what is new about it.
    PutMember(PutMember),
    /// Remove a coordinator.
    RemoveMember(RemoveMember),
    /// Keep new jobs from a runner.
    CordonRunner(CordonRunner),
    /// Empty a runner.
    DrainRunner(DrainRunner),
    /// Give jobs to a runner again.
    ResumeRunner(ResumeRunner),
    /// Change what counts of a runner's labels.
    SetLabels(SetLabels),
    /// Give the cluster the key of its jobs' tokens.
    SetJobTokenKey(SetJobTokenKey),
    /// Change the priority of a job.
    SetPriority(SetPriority),
    /// Keep the jobs of a queue waiting.
    PauseQueue(PauseQueue),
    /// Give jobs of a queue to runners again.
    ResumeQueue(ResumeQueue),
    /// Let a runner's executors take jobs again.
    LiftQuarantine(LiftQuarantine),
}

/// What a command led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reply {
    /// The job it made or changed, or that an earlier request with the same key did.
    Job(JobId),
    /// The lease it granted.
    Lease(Lease),
    /// Nothing more to say.
    Done,
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// There is no such job in the state; the history may have it.
    #[error("no live job {0}")]
    UnknownJob(JobId),
    /// There is no such runner.
    #[error("no such runner")]
    UnknownRunner,
    /// The id is taken: propose again with another.
    #[error("job id {0} is taken")]
    JobIdTaken(JobId),
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// Jobs were evicted after the proposer looked into the history: look again.
    #[error("the history has moved on")]
    HistoryMoved,
    /// The job has another lease by now, or none.
    #[error("lease {0} is not the job's current one")]
    StaleLease(Lease),
    /// The job does not wait for a runner.
    #[error("job {0} is not ready to start")]
    NotReady(JobId),
    /// All slots of the runner are taken.
    #[error("the runner has no free slot")]
    NoFreeSlot,
    /// The runner does not answer.
    #[error("the runner is unreachable")]
    RunnerUnreachable,
    /// The runner is cordoned, leaves, or has had its only job.
    #[error("the runner takes no more jobs")]
    RunnerClosed,
    /// More labels would be granted or hidden than may be.
    #[error("at most {LABELS_MAX} labels of a runner can be granted, and as many hidden")]
    TooManyLabels,
    /// What the job needs of the runner does not work.
    #[error("the runner's executor does not work at the moment")]
    RunnerUnhealthy,
    /// It does not know what to do when its quarantine is lifted.
    #[error("the runner's version of Baton cannot lift a quarantine")]
    RunnerTooOld,
    /// Somebody keeps the job's queue waiting.
    #[error("the job's queue is paused")]
    QueuePaused,
    /// More queues would be paused than may be.
    #[error("at most {PAUSED_MAX} queues can be paused")]
    TooManyPaused,
    /// The job has ended.
    #[error("job {0} has ended")]
    JobFinished(JobId),
    /// The runner has a session, or had one a moment ago.
    #[error("the runner is connected, or was a moment ago")]
    RunnerOnline,
    /// The runner holds leases.
    #[error("the runner is gone, but still holds the leases of {0} jobs")]
    RunnerHoldsLeases(usize),
    /// The runner lacks something the job requires.
    #[error("the runner does not offer what the job requires")]
    RequirementsNotMet,
    /// The job waits for its runner, however long that takes.
    #[error("the job waits for its runner")]
    LeaseKept,
    /// The cluster has members already.
    #[error("the cluster is founded already")]
    ClusterFounded,
    /// Tokens were made with another key, or may have been.
    #[error("the cluster has a key for its jobs' tokens already")]
    JobTokenKeyGiven,
    /// The number belongs, or belonged, to another coordinator.
    #[error("the number {0} was given to another coordinator")]
    NodeIdTaken(NodeId),
    /// The same data folder is a member under another number.
    #[error("this coordinator is a member under another number")]
    AlreadyMember,
    /// It does not know commands that are in use.
    #[error("it knows commands up to level {}, and those of level {} are in use", known.0, needed.0)]
    TooOld {
        /// Up to where it knows them.
        known: Level,
        /// Those in use.
        needed: Level,
    },
    /// Not every member knows the command yet.
    #[error("not every member knows commands of level {}", .0.0)]
    TooNew(Level),
    /// There is no such member.
    #[error("the cluster has no member {0}")]
    UnknownMember(NodeId),
    /// Somebody has to stay.
    #[error("it is the only member")]
    LastMember,
}

impl Command {
    /// When it was proposed.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        match self {
            Self::Submit(command) => command.at,
            Self::Grant(command) => command.at,
            Self::Start(command) => command.at,
            Self::Finish(command) => command.at,
            Self::Cancel(command) => command.at,
            Self::LoseLease(command) => command.at,
            Self::RegisterRunner(command) => command.at,
            Self::MarkUnreachable(command) => command.at,
            Self::SetHealth(command) => command.at,
            Self::RemoveRunner(command) => command.at,
            Self::Tick(command) => command.at,
            Self::Evict(command) => command.at,
            Self::FoundCluster(command) => command.at,
            Self::PutMember(command) => command.at,
            Self::RemoveMember(command) => command.at,
            Self::CordonRunner(command) => command.at,
            Self::DrainRunner(command) => command.at,
            Self::ResumeRunner(command) => command.at,
            Self::SetLabels(command) => command.at,
            Self::SetJobTokenKey(command) => command.at,
            Self::SetPriority(command) => command.at,
            Self::PauseQueue(command) => command.at,
            Self::ResumeQueue(command) => command.at,
            Self::LiftQuarantine(command) => command.at,
        }
    }

    /// The first level that knows it, with all its fields.
    #[must_use]
    pub fn level(&self) -> Level {
        match self {
            Self::Submit(command) => command.spec.level(),
            Self::RegisterRunner(command) => command.facts.level(),
            Self::Finish(command) => command.level(),
            Self::SetHealth(_) => Level(2),
            Self::RemoveRunner(RemoveRunner { by, .. })
            | Self::ResumeRunner(ResumeRunner { by, .. })
            | Self::SetLabels(SetLabels { by, .. })
                if !by.is_empty() =>
            {
                Level(4)
            }
            Self::SetPriority(_)
            | Self::PauseQueue(_)
            | Self::ResumeQueue(_)
            | Self::LiftQuarantine(_) => Level(4),
            Self::RemoveRunner(RemoveRunner { left: true, .. })
            | Self::CordonRunner(_)
            | Self::DrainRunner(_)
            | Self::ResumeRunner(_)
            | Self::SetLabels(_)
            | Self::SetJobTokenKey(_) => Level(3),
            Self::Grant(_)
            | Self::Start(_)
            | Self::Cancel(_)
            | Self::LoseLease(_)
            | Self::MarkUnreachable(_)
            | Self::RemoveRunner(_)
            | Self::Tick(_)
            | Self::Evict(_)
            | Self::FoundCluster(_)
            | Self::PutMember(_)
            | Self::RemoveMember(_) => Level(1),
        }
    }

    /// The command as it stands in the log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "every type in a command can be encoded")]
        rmp_serde::to_vec_named(self).expect("a command can be encoded")
    }

    /// Reads a command out of the log.
    ///
    /// # Errors
    /// When the bytes are no command this version knows.
    pub fn decode(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        rmp_serde::from_slice(bytes)
    }
}

pub(crate) fn apply(ctx: &mut Applying<'_>, command: Command) -> Result<Reply, Refusal> {
    match command {
        Command::Submit(command) => submit::apply(ctx, command),
        Command::Grant(command) => grant::apply(ctx, &command),
        Command::Start(command) => start::apply(ctx, &command),
        Command::Finish(command) => finish::apply(ctx, command),
        Command::Cancel(command) => cancel::apply(ctx, command),
        Command::LoseLease(command) => lose_lease::apply(ctx, &command),
        Command::RegisterRunner(command) => register_runner::apply(ctx, command),
        Command::MarkUnreachable(command) => mark_unreachable::apply(ctx, &command),
        Command::SetHealth(command) => set_health::apply(ctx, command),
        Command::RemoveRunner(command) => remove_runner::apply(ctx, command),
        Command::Tick(command) => tick::apply(ctx, &command),
        Command::Evict(command) => evict::apply(ctx, &command),
        Command::FoundCluster(command) => found_cluster::apply(ctx, command),
        Command::PutMember(command) => put_member::apply(ctx, command),
        Command::RemoveMember(command) => remove_member::apply(ctx, &command),
        Command::CordonRunner(command) => cordon_runner::apply(ctx, command),
        Command::DrainRunner(command) => drain_runner::apply(ctx, command),
        Command::ResumeRunner(command) => resume_runner::apply(ctx, command),
        Command::SetLabels(command) => set_labels::apply(ctx, command),
        Command::SetJobTokenKey(command) => set_job_token_key::apply(ctx, command),
        Command::SetPriority(command) => set_priority::apply(ctx, command),
        Command::PauseQueue(command) => pause_queue::apply(ctx, command),
        Command::ResumeQueue(command) => resume_queue::apply(ctx, command),
        Command::LiftQuarantine(command) => lift_quarantine::apply(ctx, command),
    }
}

/// Whether a request was carried out before: the answer to give again, or none.
fn repeated(ctx: &Applying<'_>, request: Option<&Request>) -> Result<Option<Reply>, Refusal> {
    let Some(request) = request else {
        return Ok(None);
    };
    match ctx.state.requests.get(&request.key) {
        Some((digest, job)) if *digest == request.digest => Ok(Some(Reply::Job(*job))),
        Some(_) => Err(Refusal::KeyReused),
        None if ctx.state.fleet_requests.contains_key(&request.key) => Err(Refusal::KeyReused),
        None => Ok(None),
    }
}

/// The proposer found nothing about this key in the history as of
/// `history_seen`; that still holds unless something was evicted since.
fn history_holds(ctx: &Applying<'_>, history_seen: Index) -> Result<(), Refusal> {
    if ctx.state.evicted_at > history_seen { Err(Refusal::HistoryMoved) } else { Ok(()) }
}

/// Takes the key for this request, until the job is evicted. The job has not
/// ended: its end will bring the key to the history.
fn remember(ctx: &mut Applying<'_>, job: &mut Job, request: Option<Request>) {
    if let Some(request) = request {
        job.keys.push(request.clone());
        ctx.state.requests.insert(request.key, (request.digest, job.id));
    }
}

/// Takes the key for this request about a job whose end has been told: the key
/// goes to the history by itself, and is kept here until it is there.
fn remember_late(ctx: &mut Applying<'_>, job: JobId, request: Option<Request>) {
    if let Some(request) = request {
        ctx.state.requests.insert(request.key.clone(), (request.digest, job));
        ctx.state.late.insert(ctx.index, request.key.clone());
        ctx.emit(EventKind::KeyTaken { job, request });
    }
}

/// The job, if `lease` is its current one; every write by a runner passes here.
fn take_leased(ctx: &mut Applying<'_>, id: JobId, lease: Lease) -> Result<Job, Refusal> {
    let job = ctx.state.job(id).ok_or(Refusal::UnknownJob(id))?;
    if job.lease() != Some(lease) {
        return Err(Refusal::StaleLease(lease));
    }
    ctx.state.take(id).ok_or(Refusal::UnknownJob(id))
}
