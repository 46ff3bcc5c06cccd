//! What happened, in order. Events feed the history, watchers and the dispatcher.

use std::{collections::BTreeSet, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Index, JobId, Lease, NodeId, RunnerId, Timestamp},
    job::{Job, Outcome},
    queue::QueueName,
    scheduling::SchedulingChange,
    state::Request,
};

/// One thing that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The entry of the log that caused it.
    pub index: Index,
    /// Its place among the events of that entry, from 0.
    pub ordinal: u32,
    /// When, by the proposer's clock.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum EventKind {
    /// A job was accepted.
    JobSubmitted {
        /// Which.
        job: JobId,
        /// By whom.
        by: String,
    },
    /// A runner got a job.
    JobLeased {
        /// Which job.
        job: JobId,
        /// Under which number.
        lease: Lease,
        /// Which runner.
        runner: RunnerId,
    },
    /// A job's process started.
    JobStarted {
        /// Which job.
        job: JobId,
        /// Under which lease.
        lease: Lease,
    },
    /// An attempt ended and the job waits again.
    JobRequeued {
        /// Which job.
        job: JobId,
        /// The lease that ended.
        lease: Lease,
        /// Whose lease it was.
        runner: RunnerId,
        /// How that attempt ended.
        outcome: Outcome,
    },
    /// A job's back-off is over.
    JobReady {
        /// Which job.
        job: JobId,
    },
    /// Somebody asked to stop a job that a runner has.
    CancelRequested {
        /// Which job.
        job: JobId,
        /// Under which lease it runs.
        lease: Lease,
        /// Which runner has it.
        runner: RunnerId,
        /// Who asked.
        by: String,
    },
    /// A runner is asked to stop a job and give it back.
    JobRecalled {
        /// Which job.
        job: JobId,
        /// Under which lease it runs.
        lease: Lease,
        /// Which runner has it.
        runner: RunnerId,
    },
    /// A job reached a final state. Carries all of it, for the history.
    JobFinished {
        /// The whole job.
        job: Arc<Job>,
    },
    /// A request about a job that had ended took its idempotency key. Those taken
    /// before stand in the job itself.
    KeyTaken {
        /// Which job.
        job: JobId,
        /// The key, and what it stands for.
        request: Request,
    },
    /// A finished job left the state; the history has it.
    JobEvicted {
        /// Which.
        job: JobId,
    },
    /// A job has another priority.
    JobPriority {
        /// Which.
        job: JobId,
        /// The one that it had.
        from: i32,
        /// The one that it has.
        to: i32,
        /// By whom.
        by: String,
    },
    /// A runner connected, for the first time or with other facts, or came back.
    RunnerOnline {
        /// Which.
        runner: RunnerId,
        /// Its name.
        #[serde(default)]
        name: String,
        /// Baton's version on it.
        #[serde(default)]
        version: String,
        /// It is being stopped.
        #[serde(default)]
        leaving: bool,
    },
    /// A runner no longer answers.
    RunnerUnreachable {
        /// Which.
        runner: RunnerId,
        /// Its name.
        #[serde(default)]
        name: String,
    },
    /// A part of a runner stopped working, does not work for another reason, or works again.
    RunnerHealth {
        /// Which.
        runner: RunnerId,
        /// Its name.
        #[serde(default)]
        name: String,
        /// The executor, or [`crate::runner::HOST`].
        #[serde(default)]
        executor: String,
        /// None when it works again.
        #[serde(default)]
        problem: Option<String>,
    },
    /// Somebody lets the executors of a runner take jobs again.
    QuarantineLifted {
        /// Which.
        runner: RunnerId,
        /// Its name.
        name: String,
        /// By whom.
        by: String,
    },
    /// A runner was cordoned, drained or resumed, or the deadline of its drain is over.
    RunnerScheduling {
        /// Which.
        runner: RunnerId,
        /// Its name.
        #[serde(default)]
        name: String,
        /// What of these.
        #[serde(default)]
        change: Option<SchedulingChange>,
        /// By whom; of a deadline, by whom that was set.
        #[serde(default)]
        by: String,
    },
    /// Labels were granted to a runner, or hidden.
    RunnerLabels {
        /// Which.
        runner: RunnerId,
        /// Its name.
        #[serde(default)]
        name: String,
        /// Those that it has from now on, whatever it says.
        #[serde(default)]
        grant: BTreeSet<String>,
        /// Those that it has not.
        #[serde(default)]
        hide: BTreeSet<String>,
        /// By whom.
        #[serde(default)]
        by: String,
    },
    /// A runner is forgotten.
    RunnerRemoved {
        /// Which.
        runner: RunnerId,
        /// Its name.
        #[serde(default)]
        name: String,
        /// By whom; empty when its time was over or it has left.
        #[serde(default)]
        by: String,
    },
    /// The jobs of a queue are kept waiting.
    QueuePaused {
        /// Which.
        queue: QueueName,
        /// By whom.
        by: String,
    },
    /// The jobs of a queue are given to runners again.
    QueueResumed {
        /// Which.
        queue: QueueName,
        /// By whom.
        by: String,
    },
    /// A coordinator became a member.
    MemberJoined {
        /// Which.
        node: NodeId,
        /// Where it serves the API.
        #[serde(default)]
        address: String,
        /// Baton's version on it.
        #[serde(default)]
        version: String,
    },
    /// A coordinator has another address or version.
    MemberChanged {
        /// Which.
        node: NodeId,
        /// Where it serves the API.
        #[serde(default)]
        address: String,
        /// Baton's version on it.
        #[serde(default)]
        version: String,
    },
    /// A coordinator is a member no more.
    MemberRemoved {
        /// Which.
        node: NodeId,
        /// Where it served the API.
        #[serde(default)]
        address: String,
        /// Baton's version on it.
        #[serde(default)]
        version: String,
    },
}

impl EventKind {
    /// Its stable name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::JobSubmitted { .. } => "job_submitted",
            Self::JobLeased { .. } => "job_leased",
            Self::JobStarted { .. } => "job_started",
            Self::JobRequeued { .. } => "job_requeued",
            Self::JobReady { .. } => "job_ready",
            Self::CancelRequested { .. } => "cancel_requested",
            Self::JobRecalled { .. } => "job_recalled",
            Self::JobFinished { .. } => "job_finished",
            Self::KeyTaken { .. } => "key_taken",
            Self::JobEvicted { .. } => "job_evicted",
            Self::JobPriority { .. } => "job_priority",
            Self::RunnerOnline { .. } => "runner_online",
            Self::RunnerUnreachable { .. } => "runner_unreachable",
            Self::RunnerHealth { .. } => "runner_health",
            Self::QuarantineLifted { .. } => "quarantine_lifted",
            Self::RunnerScheduling { .. } => "runner_scheduling",
            Self::RunnerLabels { .. } => "runner_labels",
            Self::RunnerRemoved { .. } => "runner_removed",
            Self::QueuePaused { .. } => "queue_paused",
            Self::QueueResumed { .. } => "queue_resumed",
            Self::MemberJoined { .. } => "member_joined",
            Self::MemberChanged { .. } => "member_changed",
            Self::MemberRemoved { .. } => "member_removed",
        }
    }

    /// Whether the members are others than before.
    #[must_use]
    pub fn is_about_members(&self) -> bool {
        matches!(
            self,
            Self::MemberJoined { .. } | Self::MemberChanged { .. } | Self::MemberRemoved { .. }
        )
    }

    /// The job it is about.
    #[must_use]
    pub fn job(&self) -> Option<JobId> {
        match self {
            Self::JobSubmitted { job, .. }
            | Self::JobLeased { job, .. }
            | Self::JobStarted { job, .. }
            | Self::JobRequeued { job, .. }
            | Self::JobReady { job }
            | Self::CancelRequested { job, .. }
            | Self::JobRecalled { job, .. }
            | Self::KeyTaken { job, .. }
            | Self::JobPriority { job, .. }
            | Self::JobEvicted { job } => Some(*job),
            Self::JobFinished { job } => Some(job.id),
            Self::RunnerOnline { .. }
            | Self::RunnerUnreachable { .. }
            | Self::RunnerHealth { .. }
            | Self::QuarantineLifted { .. }
            | Self::RunnerScheduling { .. }
            | Self::RunnerLabels { .. }
            | Self::RunnerRemoved { .. }
            | Self::QueuePaused { .. }
            | Self::QueueResumed { .. }
            | Self::MemberJoined { .. }
            | Self::MemberChanged { .. }
            | Self::MemberRemoved { .. } => None,
        }
    }

    /// The runner it is about.
    #[must_use]
    pub fn runner(&self) -> Option<&RunnerId> {
        match self {
            Self::JobLeased { runner, .. }
            | Self::JobRequeued { runner, .. }
            | Self::CancelRequested { runner, .. }
            | Self::JobRecalled { runner, .. }
            | Self::RunnerOnline { runner, .. }
            | Self::RunnerUnreachable { runner, .. }
            | Self::RunnerHealth { runner, .. }
            | Self::QuarantineLifted { runner, .. }
            | Self::RunnerScheduling { runner, .. }
            | Self::RunnerLabels { runner, .. }
            | Self::RunnerRemoved { runner, .. } => Some(runner),
            Self::JobFinished { job } => job.attempts.last().map(|attempt| &attempt.runner),
            Self::JobSubmitted { .. }
            | Self::JobStarted { .. }
            | Self::JobReady { .. }
            | Self::KeyTaken { .. }
            | Self::JobEvicted { .. }
            | Self::JobPriority { .. }
            | Self::QueuePaused { .. }
            | Self::QueueResumed { .. }
            | Self::MemberJoined { .. }
            | Self::MemberChanged { .. }
            | Self::MemberRemoved { .. } => None,
        }
    }
}
