//! A job's life: Queued → Leased → Running → a final state.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use crate::{
    artifacts::ArtifactTree,
    ids::{Index, JobId, Lease, RunnerId, Timestamp},
    member::Level,
    spec::{JobSpec, OnLost},
    state::Request,
};

/// A job and everything that happened to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its name.
    pub id: JobId,
    /// What was asked for.
    pub spec: Arc<JobSpec>,
    /// When it was accepted.
    pub submitted_at: Timestamp,
    /// Who submitted it.
    pub submitted_by: String,
    /// The job it repeats.
    pub retry_of: Option<JobId>,
    /// The index that accepted it: its place among jobs of equal priority, kept
    /// when it is queued again.
    pub arrival: Index,
    /// Where it is now.
    pub phase: Phase,
    /// Every lease it has had, oldest first.
    pub attempts: Vec<Attempt>,
    /// Somebody asked to stop it.
    pub cancellation: Option<Cancellation>,
    /// The requests about it that took an idempotency key before it ended; they
    /// are forgotten with it.
    pub keys: Vec<Request>,
}

/// Where a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Waiting for a runner, and before `not_before` not even for that.
    Queued {
        /// End of the back-off after a failed attempt.
        not_before: Option<Timestamp>,
    },
    /// The last attempt's runner has it; no process yet.
    Leased,
    /// The last attempt's process runs.
    Running,
    /// It has ended.
    Finished {
        /// When.
        at: Timestamp,
        /// By which entry of the log.
        index: Index,
        /// How.
        outcome: Outcome,
        /// It used up its attempts.
        dead_letter: bool,
    },
}

/// One lease of a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// Its fencing number.
    pub lease: Lease,
    /// Who held it.
    pub runner: RunnerId,
    /// The runner's name at that time.
    pub runner_name: String,
    /// When it was granted.
    pub leased_at: Timestamp,
    /// When the process started.
    pub started_at: Option<Timestamp>,
    /// When the attempt was over.
    pub finished_at: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// The complete output; none if it may lack its end.
    pub log: Option<LogEnd>,
    /// What was kept of its work folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<ArtifactTree>,
    /// Its runner was told to stop it and give the job back.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recalled: bool,
}

impl Attempt {
    /// It is one of those that the job may have: all but those that were given back.
    #[must_use]
    pub fn counts(&self) -> bool {
        let gave_back = |outcome: &Outcome| outcome.state == Final::Cancelled;
        !(self.recalled && self.outcome.as_ref().is_some_and(gave_back))
    }
}

/// How an attempt or a job ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    /// The final state.
    pub state: Final,
    /// The exit code; 128+n for signal n.
    pub exit_code: Option<i32>,
    /// The signal that ended the process.
    pub signal: Option<i32>,
    /// A stable word; empty for a plain exit.
    pub reason: String,
    /// One line for people.
    pub message: String,
    /// The runner saw that no process was left.
    pub tree_gone: bool,
    /// Processes it had to kill for that.
    pub killed: u32,
    /// What held each limit that was asked for: only of jobs that did.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub limits: BTreeMap<String, String>,
    /// What the job said by names.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, String>,
}

impl Outcome {
    /// The first level that knows all of it.
    #[must_use]
    pub fn level(&self) -> Level {
        match (self.outputs.is_empty(), self.limits.is_empty()) {
            (false, _) => Level(3),
            (true, false) => Level(2),
            (true, true) => Level(1),
        }
    }

    /// An outcome that no process had a part in.
    #[must_use]
    pub fn without_process(state: Final, reason: &str, message: impl Into<String>) -> Self {
        Self {
            state,
            exit_code: None,
            signal: None,
            reason: reason.to_owned(),
            message: message.into(),
            tree_gone: false,
            killed: 0,
            limits: BTreeMap::new(),
            outputs: BTreeMap::new(),
        }
    }
}

/// The states a job can end in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Final {
    /// Exit code 0.
    Succeeded,
    /// Another exit code, or a signal.
    Failed,
    /// Stopped at its time limit.
    TimedOut,
    /// Stopped because somebody asked.
    Cancelled,
    /// Not run to its end because of Baton or its surroundings.
    Error,
    /// Its runner was lost.
    Lost,
}

/// The complete output of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogEnd {
    /// Bytes kept of standard output.
    pub stdout_length: u64,
    /// Their BLAKE3.
    pub stdout_blake3: String,
    /// Bytes kept of standard error.
    pub stderr_length: u64,
    /// Their BLAKE3.
    pub stderr_blake3: String,
    /// Bytes beyond the limit, not kept.
    pub dropped: u64,
    /// Bytes of the stored file.
    pub file_length: u64,
    /// Its BLAKE3.
    pub file_blake3: String,
}

/// A request to stop a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    /// When.
    pub at: Timestamp,
    /// By whom.
    pub by: String,
    /// Why; may be empty.
    pub reason: String,
}

impl Job {
    /// The attempt that holds the job's lease now.
    #[must_use]
    pub fn current(&self) -> Option<&Attempt> {
        match self.phase {
            Phase::Leased | Phase::Running => self.attempts.last(),
            Phase::Queued { .. } | Phase::Finished { .. } => None,
        }
    }

    /// The runner that has it was told to give it back.
    #[must_use]
    pub fn is_recalled(&self) -> bool {
        self.current().is_some_and(|attempt| attempt.recalled)
    }

    /// How many of its attempts it has used up, the one that runs included.
    #[must_use]
    pub fn attempts_used(&self) -> usize {
        self.attempts.iter().filter(|attempt| attempt.counts()).count()
    }

    /// The lease that counts now.
    #[must_use]
    pub fn lease(&self) -> Option<Lease> {
        self.current().map(|attempt| attempt.lease)
    }

    /// What its attempts left, oldest first.
    pub fn artifacts(&self) -> impl DoubleEndedIterator<Item = &ArtifactTree> {
        self.attempts.iter().filter_map(|attempt| attempt.artifacts.as_ref())
    }

    /// The manifests of all trees that it needs to be stored: its source, what it left, and
    /// as long as it has not ended its inputs.
    pub fn trees(&self) -> impl Iterator<Item = &str> {
        let inputs = self.spec.inputs.iter().filter(|_| !self.is_finished());
        let source = self.spec.tree().map(|tree| tree.digest.as_str());
        let others = inputs.map(|input| &input.tree).chain(self.artifacts());
        source.into_iter().chain(others.map(|tree| tree.digest.as_str()))
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn outcome(&self) -> Option<&Outcome> {
        match &self.phase {
            Phase::Finished { outcome, .. } => Some(outcome),
            _ => None,
        }
    }

    /// It has reached a final state.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        matches!(self.phase, Phase::Finished { .. })
    }

    /// A lease whose runner is not heard of may be taken away. Under
    /// [`OnLost::Wait`] only once somebody has cancelled the job.
    #[must_use]
    pub fn lease_may_expire(&self) -> bool {
        self.spec.on_lost != OnLost::Wait || self.cancellation.is_some()
    }

    /// Since when it waits, if it does: since it was accepted, or its last attempt was over.
    #[must_use]
    pub fn waits_since(&self) -> Timestamp {
        let over = self.attempts.last().and_then(|attempt| attempt.finished_at);
        // By the clock of a runner.
        over.unwrap_or_default().max(self.submitted_at)
    }

    /// When the job must have started; none if it may wait for ever or no longer waits.
    #[must_use]
    pub fn queue_deadline(&self) -> Option<Timestamp> {
        // A job that has been started once has met its deadline.
        if !self.attempts.is_empty() || !matches!(self.phase, Phase::Queued { .. }) {
            return None;
        }
        self.spec.queue_timeout.map(|limit| self.submitted_at.plus(limit))
    }
}
