//! The JSON that `-o json` and `--result-file` write. Field names and their
//! meaning are stable; fields are only ever added. Times are RFC 3339 in UTC,
//! durations seconds, states the API's words in lower case. No text for people
//! is made here.

use std::collections::BTreeMap;

use baton_proto::v1::{
    self, Attempt, ClusterStatusResponse, Job, JobState, LogEnd, LogPiece, LogStream, OnLost,
    Outcome, Runner, RunnerState, Waiting, source::Kind,
};
use jiff::Timestamp;
use serde::Serialize;

/// A job.
#[derive(Debug, Serialize)]
pub(crate) struct JobView {
    pub(crate) id: String,
    pub(crate) state: &'static str,
    pub(crate) name: String,
    pub(crate) project: String,
    pub(crate) submitted_at: Option<Timestamp>,
    pub(crate) submitted_by: String,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) outcome: Option<OutcomeView>,
    pub(crate) cancellation: Option<CancellationView>,
    pub(crate) dead_letter: bool,
    pub(crate) retry_of: Option<String>,
    pub(crate) attempts: Vec<AttemptView>,
    pub(crate) spec: SpecView,
}

/// What was asked for.
#[derive(Debug, Default, Serialize)]
pub(crate) struct SpecView {
    pub(crate) command: Vec<String>,
    pub(crate) env: BTreeMap<String, String>,
    pub(crate) labels: Vec<String>,
    pub(crate) priority: i32,
    pub(crate) soft_timeout_seconds: Option<f64>,
    pub(crate) timeout_seconds: Option<f64>,
    pub(crate) queue_timeout_seconds: Option<f64>,
    pub(crate) attempts: u32,
    pub(crate) on_lost: &'static str,
    pub(crate) source: Option<SourceView>,
    pub(crate) output_limit: u64,
}

/// The code that a job brought along.
#[derive(Debug, Serialize)]
pub(crate) struct SourceView {
    pub(crate) kind: &'static str,
    pub(crate) digest: String,
    pub(crate) size: u64,
}

/// One lease of a job.
#[derive(Debug, Serialize)]
pub(crate) struct AttemptView {
    pub(crate) number: u32,
    pub(crate) lease: u64,
    pub(crate) runner_id: String,
    pub(crate) runner_name: String,
    pub(crate) leased_at: Option<Timestamp>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
    pub(crate) outcome: Option<OutcomeView>,
    pub(crate) log: Option<LogView>,
}

/// How a job or an attempt ended.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct OutcomeView {
    pub(crate) state: &'static str,
    pub(crate) exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) tree_gone: bool,
    pub(crate) killed: u32,
}

/// Somebody's wish to stop a job.
#[derive(Debug, Serialize)]
pub(crate) struct CancellationView {
    pub(crate) requested_at: Option<Timestamp>,
    pub(crate) requested_by: String,
    pub(crate) reason: String,
}

/// The complete output of an attempt.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct LogView {
    pub(crate) stdout_length: u64,
    pub(crate) stdout_blake3: String,
    pub(crate) stderr_length: u64,
    pub(crate) stderr_blake3: String,
    pub(crate) dropped: u64,
}

/// Why a job waits.
#[derive(Debug, Serialize)]
pub(crate) struct WaitingView {
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) ahead: u64,
}

/// A page of jobs.
#[derive(Debug, Serialize)]
pub(crate) struct JobsView {
    pub(crate) jobs: Vec<JobView>,
    pub(crate) next_page_token: Option<String>,
}

/// The answer of `jobs why`.
#[derive(Debug, Serialize)]
pub(crate) struct WhyView {
    pub(crate) job_id: String,
    pub(crate) message: String,
    pub(crate) waiting: Option<WaitingView>,
}

/// Bytes of a job, or a note by Baton.
#[derive(Debug, Serialize)]
pub(crate) struct LogPieceView {
    pub(crate) stream: &'static str,
    pub(crate) time: Option<Timestamp>,
    /// Null when the bytes are not UTF-8.
    pub(crate) text: Option<String>,
    /// Null when the bytes are UTF-8.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// The answer of `submit` and `jobs retry`.
#[derive(Debug, Serialize)]
pub(crate) struct SubmittedView {
    pub(crate) job_id: String,
    pub(crate) state: &'static str,
}

/// A runner.
#[derive(Debug, Serialize)]
pub(crate) struct RunnerView {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) labels: Vec<String>,
    pub(crate) slots: u32,
    pub(crate) slots_used: usize,
    pub(crate) version: String,
    pub(crate) registered_at: Option<Timestamp>,
    pub(crate) changed_at: Option<Timestamp>,
    pub(crate) last_heartbeat: Option<Timestamp>,
    pub(crate) leases: Vec<LeaseView>,
}

/// A lease that a runner holds.
#[derive(Debug, Serialize)]
pub(crate) struct LeaseView {
    pub(crate) job_id: String,
    pub(crate) job_name: String,
    pub(crate) lease: u64,
    pub(crate) state: &'static str,
}

/// All runners.
#[derive(Debug, Serialize)]
pub(crate) struct RunnersView {
    pub(crate) runners: Vec<RunnerView>,
}

/// A runner that was removed.
#[derive(Debug, Serialize)]
pub(crate) struct RemovedView {
    pub(crate) id: String,
}

/// The coordinators and the figures of the fleet.
#[derive(Debug, Serialize)]
pub(crate) struct ClusterView {
    pub(crate) node_id: u64,
    pub(crate) leader_id: Option<u64>,
    pub(crate) term: u64,
    pub(crate) committed: u64,
    pub(crate) applied: u64,
    pub(crate) version: String,
    pub(crate) members: Vec<MemberView>,
    pub(crate) jobs_queued: u64,
    pub(crate) jobs_running: u64,
    pub(crate) runners_online: u64,
    pub(crate) runners_unreachable: u64,
    pub(crate) slots: u64,
    pub(crate) slots_used: u64,
}

/// One coordinator.
#[derive(Debug, Serialize)]
pub(crate) struct MemberView {
    pub(crate) node_id: u64,
    pub(crate) voter: bool,
}

/// The word for a job's state.
pub(crate) fn job_state(state: JobState) -> &'static str {
    match state {
        JobState::Unspecified => "unspecified",
        JobState::Queued => "queued",
        JobState::Leased => "leased",
        JobState::Running => "running",
        JobState::Succeeded => "succeeded",
        JobState::Failed => "failed",
        JobState::TimedOut => "timed_out",
        JobState::Cancelled => "cancelled",
        JobState::Error => "error",
        JobState::Lost => "lost",
    }
}

fn runner_state(state: RunnerState) -> &'static str {
    match state {
        RunnerState::Unspecified => "unspecified",
        RunnerState::Online => "online",
        RunnerState::Unreachable => "unreachable",
    }
}

fn on_lost(policy: OnLost) -> &'static str {
    match policy {
        OnLost::Unspecified | OnLost::Requeue => "requeue",
        OnLost::Fail => "fail",
        OnLost::Wait => "wait",
    }
}

/// A time of the API; none when it is out of any calendar's range.
pub(crate) fn time(time: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}

fn optional_time(at: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    at.and_then(time)
}

fn seconds(duration: Option<&prost_types::Duration>) -> Option<f64> {
    duration.and_then(baton_proto::time::duration_from_proto).map(|duration| duration.as_secs_f64())
}

impl From<&Job> for JobView {
    fn from(job: &Job) -> Self {
        let spec = job.spec.clone().unwrap_or_default();
        Self {
            id: job.id.clone(),
            state: job_state(job.state()),
            name: if spec.name.is_empty() { spec.command.join(" ") } else { spec.name.clone() },
            project: spec.project.clone(),
            submitted_at: optional_time(job.submitted_at.as_ref()),
            submitted_by: job.submitted_by.clone(),
            finished_at: optional_time(job.finished_at.as_ref()),
            outcome: job.outcome.as_ref().map(OutcomeView::from),
            cancellation: job.cancellation.as_ref().map(|cancellation| CancellationView {
                requested_at: optional_time(cancellation.requested_at.as_ref()),
                requested_by: cancellation.requested_by.clone(),
                reason: cancellation.reason.clone(),
            }),
            dead_letter: job.dead_letter,
            retry_of: (!job.retry_of.is_empty()).then(|| job.retry_of.clone()),
            attempts: job.attempts.iter().map(AttemptView::from).collect(),
            spec: SpecView::from(spec),
        }
    }
}

impl From<v1::JobSpec> for SpecView {
    fn from(spec: v1::JobSpec) -> Self {
        Self {
            soft_timeout_seconds: seconds(spec.soft_timeout.as_ref()),
            timeout_seconds: seconds(spec.timeout.as_ref()),
            queue_timeout_seconds: seconds(spec.queue_timeout.as_ref()),
            on_lost: on_lost(spec.on_lost()),
            source: spec.source.and_then(|source| source.kind).map(|kind| match kind {
                Kind::Archive(archive) => {
                    SourceView { kind: "archive", digest: archive.digest, size: archive.size }
                }
            }),
            command: spec.command,
            env: spec.env.into_iter().collect(),
            labels: spec.labels,
            priority: spec.priority,
            attempts: spec.attempts,
            output_limit: spec.output_limit,
        }
    }
}

impl From<&Attempt> for AttemptView {
    fn from(attempt: &Attempt) -> Self {
        Self {
            number: attempt.number,
            lease: attempt.lease,
            runner_id: attempt.runner_id.clone(),
            runner_name: attempt.runner_name.clone(),
            leased_at: optional_time(attempt.leased_at.as_ref()),
            started_at: optional_time(attempt.started_at.as_ref()),
            finished_at: optional_time(attempt.finished_at.as_ref()),
            outcome: attempt.outcome.as_ref().map(OutcomeView::from),
            log: attempt.log.as_ref().map(LogView::from),
        }
    }
}

impl From<&Outcome> for OutcomeView {
    fn from(outcome: &Outcome) -> Self {
        Self {
            state: job_state(outcome.state()),
            exit_code: outcome.exit_code,
            signal: outcome.signal,
            reason: outcome.reason.clone(),
            message: outcome.message.clone(),
            tree_gone: outcome.tree_gone,
            killed: outcome.killed,
        }
    }
}

impl From<&LogEnd> for LogView {
    fn from(end: &LogEnd) -> Self {
        Self {
            stdout_length: end.stdout_length,
            stdout_blake3: end.stdout_blake3.clone(),
            stderr_length: end.stderr_length,
            stderr_blake3: end.stderr_blake3.clone(),
            dropped: end.dropped,
        }
    }
}

impl From<&LogPiece> for LogPieceView {
    fn from(piece: &LogPiece) -> Self {
        let text = std::str::from_utf8(&piece.data).ok().map(str::to_owned);
        let bytes = text.is_none().then(|| piece.data.to_vec());
        let stream = match piece.stream() {
            LogStream::Unspecified | LogStream::Stdout => "stdout",
            LogStream::Stderr => "stderr",
            LogStream::Note => "note",
        };
        Self { stream, time: optional_time(piece.time.as_ref()), text, bytes }
    }
}

impl From<Waiting> for WaitingView {
    fn from(waiting: Waiting) -> Self {
        Self { reason: waiting.reason, message: waiting.message, ahead: waiting.ahead }
    }
}

impl From<&Job> for SubmittedView {
    fn from(job: &Job) -> Self {
        Self { job_id: job.id.clone(), state: job_state(job.state()) }
    }
}

impl From<&Runner> for RunnerView {
    fn from(runner: &Runner) -> Self {
        Self {
            id: runner.id.clone(),
            name: runner.name.clone(),
            state: runner_state(runner.state()),
            labels: runner.labels.clone(),
            slots: runner.slots,
            slots_used: runner.leases.len(),
            version: runner.version.clone(),
            registered_at: optional_time(runner.registered_at.as_ref()),
            changed_at: optional_time(runner.changed_at.as_ref()),
            last_heartbeat: optional_time(runner.last_heartbeat.as_ref()),
            leases: runner
                .leases
                .iter()
                .map(|lease| LeaseView {
                    job_id: lease.job_id.clone(),
                    job_name: lease.job_name.clone(),
                    lease: lease.lease,
                    state: job_state(lease.state()),
                })
                .collect(),
        }
    }
}

impl From<ClusterStatusResponse> for ClusterView {
    fn from(status: ClusterStatusResponse) -> Self {
        let member = |member: &v1::ClusterMember| MemberView {
            node_id: member.node_id,
            voter: member.voter,
        };
        Self {
            node_id: status.node_id,
            leader_id: (status.leader_id != 0).then_some(status.leader_id),
            term: status.term,
            committed: status.committed,
            applied: status.applied,
            members: status.members.iter().map(member).collect(),
            version: status.version,
            jobs_queued: status.jobs_queued,
            jobs_running: status.jobs_running,
            runners_online: status.runners_online,
            runners_unreachable: status.runners_unreachable,
            slots: status.slots,
            slots_used: status.slots_used,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn finished_job() -> Job {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 500_000_000 });
        let outcome = Outcome {
            state: JobState::Failed.into(),
            exit_code: Some(137),
            signal: Some(9),
            tree_gone: true,
            ..Outcome::default()
        };
        Job {
            id: "01J".to_owned(),
            spec: Some(v1::JobSpec {
                command: vec!["sh".to_owned(), "-c".to_owned(), "kill -9 $$".to_owned()],
                project: "default".to_owned(),
                timeout: Some(prost_types::Duration { seconds: 90, nanos: 0 }),
                attempts: 3,
                ..v1::JobSpec::default()
            }),
            state: JobState::Failed.into(),
            attempts: vec![Attempt {
                number: 1,
                lease: 12,
                runner_name: "r".to_owned(),
                started_at: at(1_700_000_000),
                outcome: Some(outcome.clone()),
                log: Some(LogEnd { stdout_length: 3, ..LogEnd::default() }),
                ..Attempt::default()
            }],
            submitted_at: at(1_699_999_999),
            finished_at: at(1_700_000_001),
            outcome: Some(outcome),
            ..Job::default()
        }
    }

    #[test]
    fn a_job_keeps_its_field_names() {
        let view = serde_json::to_value(JobView::from(&finished_job())).unwrap();
        let names: Vec<_> = view.as_object().unwrap().keys().cloned().collect();
        assert_eq!(
            names,
            [
                "attempts",
                "cancellation",
                "dead_letter",
                "finished_at",
                "id",
                "name",
                "outcome",
                "project",
                "retry_of",
                "spec",
                "state",
                "submitted_at",
                "submitted_by",
            ]
        );
        assert_eq!(view["state"], "failed");
        assert_eq!(view["name"], "sh -c kill -9 $$");
        assert_eq!(view["submitted_at"], "2023-11-14T22:13:19.5Z");
        assert_eq!(
            view["outcome"],
            json!({
                "state": "failed", "exit_code": 137, "signal": 9, "reason": "", "message": "",
                "tree_gone": true, "killed": 0,
            })
        );
        assert_eq!(view["spec"]["timeout_seconds"], 90.0);
        assert_eq!(view["spec"]["on_lost"], "requeue");
        assert_eq!(view["attempts"][0]["log"]["stdout_length"], 3);
        assert_eq!(view["retry_of"], Value::Null);
    }

    #[test]
    fn no_leader_is_null_rather_than_zero() {
        let view = ClusterView::from(ClusterStatusResponse::default());
        assert_eq!(view.leader_id, None);
    }
}
