//! Jobs and runners as the API shows them, and what runners report.

use std::collections::BTreeMap;

use baton_proto::{
    error::ApiError,
    outputs::{MAX as OUTPUTS_MAX, MAX_BYTES as OUTPUTS_MAX_BYTES},
    time::{millis_from_timestamp, timestamp_from_millis},
    v1,
};
use baton_state::{
    Attempt, Connection, Final, Job, LogEnd, Outcome, Phase, Runner, State, Timestamp,
};

use super::{
    artifacts::tree_to_proto, executor::executors_to_proto, invalid, scheduling, spec::spec_shown,
};
use crate::dispatch::Reported;

/// The limits that a runner can be asked for.
const LIMITS: [&str; 4] = ["cpus", "memory", "processes", "open_files"];

/// A job as the API shows it.
pub(crate) fn job_to_proto(job: &Job) -> v1::Job {
    let (finished_at, dead_letter) = finish(job);
    v1::Job {
        id: job.id.to_string(),
        spec: Some(spec_shown(&job.spec)),
        state: state(job).into(),
        attempts: (1..).zip(&job.attempts).map(|(number, a)| attempt(number, a)).collect(),
        submitted_at: Some(time(job.submitted_at)),
        submitted_by: job.submitted_by.clone(),
        finished_at,
        outcome: job.outcome().map(outcome_to_proto),
        cancellation: job.cancellation.as_ref().map(|cancellation| v1::Cancellation {
            requested_at: Some(time(cancellation.at)),
            requested_by: cancellation.by.clone(),
            reason: cancellation.reason.clone(),
        }),
        dead_letter,
        retry_of: job.retry_of.map(|id| id.to_string()).unwrap_or_default(),
    }
}

/// A job as a line of a list.
pub(crate) fn job_summary(job: &Job) -> v1::JobSummary {
    let (finished_at, dead_letter) = finish(job);
    let last = job.attempts.last();
    let outcome = job.outcome();
    v1::JobSummary {
        id: job.id.to_string(),
        name: job.spec.name.clone(),
        project: job.spec.project.clone(),
        state: state(job).into(),
        labels: job.spec.requirements.labels.iter().cloned().collect(),
        executor: job.spec.requirements.executor.name().into_owned(),
        priority: job.spec.priority,
        submitted_at: Some(time(job.submitted_at)),
        submitted_by: job.submitted_by.clone(),
        started_at: last.and_then(|attempt| attempt.started_at).map(time),
        finished_at,
        runner_name: last.map(|attempt| attempt.runner_name.clone()).unwrap_or_default(),
        attempts: u32::try_from(job.attempts.len()).unwrap_or(u32::MAX),
        exit_code: outcome.and_then(|outcome| outcome.exit_code),
        reason: outcome.map(|outcome| outcome.reason.clone()).unwrap_or_default(),
        dead_letter,
        cancelling: job.cancellation.is_some() && !job.is_finished(),
    }
}

/// When it ended, and whether it used up its attempts.
fn finish(job: &Job) -> (Option<prost_types::Timestamp>, bool) {
    match &job.phase {
        Phase::Finished { at, dead_letter, .. } => (Some(time(*at)), *dead_letter),
        _ => (None, false),
    }
}

/// A runner as the API shows it; `last_heartbeat` and what it `reported` of its health
/// come from the leader's memory.
pub(crate) fn runner_to_proto(
    state: &State,
    runner: &Runner,
    last_heartbeat: Option<Timestamp>,
    reported: Option<Reported>,
) -> v1::Runner {
    let clock_offset = reported.as_ref().and_then(|reported| {
        let time = reported.health.time.as_ref().map(millis_from_timestamp)?;
        let offset = i64::try_from(time).ok()?.checked_sub(i64::try_from(reported.at.0).ok()?)?;
        Some(signed_millis(offset))
    });
    let unhealthy = runner.unhealthy.iter().map(|(name, unhealthy)| v1::Unhealthy {
        name: name.clone(),
        problem: unhealthy.problem.clone(),
        since: Some(time(unhealthy.since)),
    });
    let leases = runner.leases.iter().filter_map(|(lease, job)| {
        let job = state.job(*job)?;
        Some(v1::RunnerLease {
            job_id: job.id.to_string(),
            job_name: job.spec.name.clone(),
            lease: lease.0,
            state: self::state(job).into(),
        })
    });
    v1::Runner {
        id: runner.facts.id.to_string(),
        name: runner.facts.name.clone(),
        labels: runner.labels().into_iter().map(str::to_owned).collect(),
        slots: runner.facts.slots,
        state: match runner.connection {
            Connection::Online => v1::RunnerState::Online,
            Connection::Unreachable => v1::RunnerState::Unreachable,
        }
        .into(),
        version: runner.facts.version.clone(),
        registered_at: Some(time(runner.registered_at)),
        changed_at: Some(time(runner.changed_at)),
        last_heartbeat: last_heartbeat.map(time),
        leases: leases.collect(),
        executors: Some(executors_to_proto(&runner.facts.executors)),
        health: reported.map(|reported| reported.health),
        clock_offset,
        unhealthy: unhealthy.collect(),
        scheduling: Some(scheduling::to_proto(runner)),
        granted_labels: runner.granted.iter().cloned().collect(),
        hidden_labels: runner.hidden.iter().cloned().collect(),
        ephemeral: runner.facts.ephemeral,
    }
}

fn signed_millis(millis: i64) -> prost_types::Duration {
    let nanos = i32::try_from(millis % 1000 * 1_000_000).unwrap_or_default();
    prost_types::Duration { seconds: millis / 1000, nanos }
}

fn state(job: &Job) -> v1::JobState {
    match &job.phase {
        Phase::Queued { .. } => v1::JobState::Queued,
        Phase::Leased => v1::JobState::Leased,
        Phase::Running => v1::JobState::Running,
        Phase::Finished { outcome, .. } => final_to_proto(outcome.state),
    }
}

fn final_to_proto(state: Final) -> v1::JobState {
    match state {
        Final::Succeeded => v1::JobState::Succeeded,
        Final::Failed => v1::JobState::Failed,
        Final::TimedOut => v1::JobState::TimedOut,
        Final::Cancelled => v1::JobState::Cancelled,
        Final::Error => v1::JobState::Error,
        Final::Lost => v1::JobState::Lost,
    }
}

/// The final state that a message names.
pub(crate) fn state_from_proto(state: v1::JobState) -> Option<Final> {
    match state {
        v1::JobState::Succeeded => Some(Final::Succeeded),
        v1::JobState::Failed => Some(Final::Failed),
        v1::JobState::TimedOut => Some(Final::TimedOut),
        v1::JobState::Cancelled => Some(Final::Cancelled),
        v1::JobState::Error => Some(Final::Error),
        v1::JobState::Lost => Some(Final::Lost),
        v1::JobState::Unspecified
        | v1::JobState::Queued
        | v1::JobState::Leased
        | v1::JobState::Running => None,
    }
}

fn attempt(number: u32, attempt: &Attempt) -> v1::Attempt {
    v1::Attempt {
        number,
        lease: attempt.lease.0,
        runner_id: attempt.runner.to_string(),
        runner_name: attempt.runner_name.clone(),
        leased_at: Some(time(attempt.leased_at)),
        started_at: attempt.started_at.map(time),
        finished_at: attempt.finished_at.map(time),
        outcome: attempt.outcome.as_ref().map(outcome_to_proto),
        log: attempt.log.as_ref().map(log_end_to_proto),
        artifacts: attempt.artifacts.as_ref().map(tree_to_proto),
    }
}

fn outcome_to_proto(outcome: &Outcome) -> v1::Outcome {
    v1::Outcome {
        state: final_to_proto(outcome.state).into(),
        exit_code: outcome.exit_code,
        signal: outcome.signal,
        reason: outcome.reason.clone(),
        message: outcome.message.clone(),
        tree_gone: outcome.tree_gone,
        killed: outcome.killed,
        limits: outcome.limits.clone().into_iter().collect(),
        outputs: outcome.outputs.clone().into_iter().collect(),
    }
}

/// The outcome a runner reports.
pub(crate) fn outcome_from_proto(outcome: v1::Outcome) -> Result<Outcome, ApiError> {
    let state = v1::JobState::try_from(outcome.state).ok().and_then(state_from_proto);
    Ok(Outcome {
        state: state.ok_or_else(|| invalid("outcome.state", "must be a final state"))?,
        exit_code: outcome.exit_code,
        signal: outcome.signal,
        // A report must not fail for its wording: the job would never end.
        reason: cleaned(outcome.reason, 64),
        message: cleaned(outcome.message, 1000),
        tree_gone: outcome.tree_gone,
        killed: outcome.killed,
        limits: limits(outcome.limits),
        outputs: outputs(outcome.outputs),
    })
}

/// Of the limits that there are, whatever holds them.
fn limits(limits: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let known = limits.into_iter().filter(|(limit, _)| LIMITS.contains(&limit.as_str()));
    known.map(|(limit, by)| (limit, cleaned(by, 64))).collect()
}

/// Of those that are in order, as many as may be.
fn outputs(outputs: impl IntoIterator<Item = (String, String)>) -> BTreeMap<String, String> {
    let sorted: BTreeMap<_, _> = outputs.into_iter().collect();
    let mut room = OUTPUTS_MAX_BYTES;
    let right = sorted.into_iter().filter(|(name, _)| baton_proto::outputs::is_name(name));
    let fitting = right.take_while(|(name, value)| {
        let needed = name.len() + value.len();
        let fits = needed <= room;
        room = room.saturating_sub(needed);
        fits
    });
    fitting.take(OUTPUTS_MAX).collect()
}

pub(super) fn cleaned(mut text: String, max: usize) -> String {
    text.retain(|c| !c.is_control());
    text.truncate(text.floor_char_boundary(max));
    text
}

fn log_end_to_proto(log: &LogEnd) -> v1::LogEnd {
    v1::LogEnd {
        stdout_length: log.stdout_length,
        stdout_blake3: log.stdout_blake3.clone(),
        stderr_length: log.stderr_length,
        stderr_blake3: log.stderr_blake3.clone(),
        dropped: log.dropped,
        file_length: log.file_length,
        file_blake3: log.file_blake3.clone(),
    }
}

/// The complete output a runner reports.
pub(crate) fn log_end_from_proto(log: v1::LogEnd) -> LogEnd {
    LogEnd {
        stdout_length: log.stdout_length,
        stdout_blake3: log.stdout_blake3,
        stderr_length: log.stderr_length,
        stderr_blake3: log.stderr_blake3,
        dropped: log.dropped,
        file_length: log.file_length,
        file_blake3: log.file_blake3,
    }
}

fn time(time: Timestamp) -> prost_types::Timestamp {
    timestamp_from_millis(time.0)
}
