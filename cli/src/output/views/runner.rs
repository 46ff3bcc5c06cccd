//! Runners and what they hold.

use baton_proto::v1::{
    AtDeadline, ExecutorHealth, Executors, Health, Runner, RunnerState, Scheduling,
    SchedulingState, SshTarget, Unhealthy,
};
use jiff::Timestamp;
use serde::Serialize;

use super::{job_state, optional_time, seconds};

/// A runner.
#[derive(Debug, Serialize)]
pub(crate) struct RunnerView {
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) state: &'static str,
    pub(crate) scheduling: SchedulingView,
    pub(crate) ephemeral: bool,
    pub(crate) labels: Vec<String>,
    pub(crate) granted_labels: Vec<String>,
    pub(crate) hidden_labels: Vec<String>,
    pub(crate) slots: u32,
    pub(crate) slots_used: usize,
    pub(crate) version: String,
    pub(crate) registered_at: Option<Timestamp>,
    pub(crate) changed_at: Option<Timestamp>,
    pub(crate) last_heartbeat: Option<Timestamp>,
    pub(crate) leases: Vec<LeaseView>,
    pub(crate) executors: Vec<&'static str>,
    pub(crate) targets: Vec<TargetView>,
    pub(crate) unhealthy: Vec<UnhealthyView>,
    pub(crate) health: Option<HealthView>,
}

/// Whether a runner is given jobs.
#[derive(Debug, Serialize)]
pub(crate) struct SchedulingView {
    pub(crate) state: &'static str,
    pub(crate) by: Option<String>,
    pub(crate) since: Option<Timestamp>,
    pub(crate) deadline: Option<Timestamp>,
    pub(crate) then: Option<&'static str>,
}

/// Something of a runner that gets no jobs: an executor, or `host` for all of it.
#[derive(Debug, Serialize)]
pub(crate) struct UnhealthyView {
    pub(crate) name: String,
    pub(crate) problem: String,
    pub(crate) since: Option<Timestamp>,
}

/// What a runner found when it looked at itself.
#[derive(Debug, Serialize)]
pub(crate) struct HealthView {
    pub(crate) time: Option<Timestamp>,
    pub(crate) clock_offset_seconds: Option<f64>,
    pub(crate) load: f64,
    pub(crate) cpus: u32,
    pub(crate) memory_total: u64,
    pub(crate) memory_available: u64,
    pub(crate) disk_total: u64,
    pub(crate) disk_available: u64,
    pub(crate) problem: String,
    pub(crate) executors: Vec<ExecutorHealthView>,
}

/// How an executor is.
#[derive(Debug, Serialize)]
pub(crate) struct ExecutorHealthView {
    pub(crate) name: String,
    pub(crate) healthy: bool,
    pub(crate) problem: String,
    pub(crate) failures: u32,
    pub(crate) version: String,
    pub(crate) round_trip_seconds: Option<f64>,
}

/// A host that a runner reaches over SSH.
#[derive(Debug, Serialize)]
pub(crate) struct TargetView {
    pub(crate) name: String,
    pub(crate) labels: Vec<String>,
    pub(crate) slots: u32,
}

/// A lease that a runner holds.
#[derive(Debug, Serialize)]
pub(crate) struct LeaseView {
    pub(crate) job_id: String,
    pub(crate) job_name: String,
    pub(crate) lease: u64,
    pub(crate) state: &'static str,
}

/// What a runner found when it looked at itself in the last hour, oldest first.
#[derive(Debug, Serialize)]
pub(crate) struct ChecksView {
    pub(crate) checks: Vec<HealthView>,
}

/// A runner that was changed or removed.
#[derive(Debug, Serialize)]
pub(crate) struct ChangedView {
    pub(crate) id: String,
}

/// All runners.
#[derive(Debug, Serialize)]
pub(crate) struct RunnersView {
    pub(crate) runners: Vec<RunnerView>,
}

fn runner_state(state: RunnerState) -> &'static str {
    match state {
        RunnerState::Unspecified => "unspecified",
        RunnerState::Online => "online",
        RunnerState::Unreachable => "unreachable",
    }
}

/// What a runner runs jobs with.
fn executors(executors: &Executors) -> Vec<&'static str> {
    let kinds = [
        (executors.local, "local"),
        (executors.docker, "docker"),
        (!executors.targets.is_empty(), "ssh"),
    ];
    kinds.into_iter().filter_map(|(has, kind)| has.then_some(kind)).collect()
}

impl SchedulingView {
    fn new(scheduling: &Scheduling) -> Self {
        Self {
            state: match scheduling.state() {
                // An older coordinator has no other.
                SchedulingState::Unspecified | SchedulingState::Active => "active",
                SchedulingState::Cordoned => "cordoned",
                SchedulingState::Draining => "draining",
            },
            by: Some(scheduling.by.clone()).filter(|by| !by.is_empty()),
            since: optional_time(scheduling.since.as_ref()),
            deadline: optional_time(scheduling.deadline.as_ref()),
            then: match scheduling.then() {
                AtDeadline::Unspecified => None,
                AtDeadline::Wait => Some("wait"),
                AtDeadline::Requeue => Some("requeue"),
                AtDeadline::Cancel => Some("cancel"),
            },
        }
    }
}

impl From<&Unhealthy> for UnhealthyView {
    fn from(unhealthy: &Unhealthy) -> Self {
        Self {
            name: unhealthy.name.clone(),
            problem: unhealthy.problem.clone(),
            since: optional_time(unhealthy.since.as_ref()),
        }
    }
}

impl From<&Health> for HealthView {
    fn from(health: &Health) -> Self {
        Self::new(health, None)
    }
}

impl HealthView {
    fn new(health: &Health, clock_offset: Option<&prost_types::Duration>) -> Self {
        let executor = |executor: &ExecutorHealth| ExecutorHealthView {
            name: executor.name.clone(),
            healthy: executor.healthy,
            problem: executor.problem.clone(),
            failures: executor.failures,
            version: executor.version.clone(),
            round_trip_seconds: seconds(executor.round_trip.as_ref()),
        };
        Self {
            time: optional_time(health.time.as_ref()),
            clock_offset_seconds: clock_offset.map(signed_seconds),
            load: health.load,
            cpus: health.cpus,
            memory_total: health.memory_total,
            memory_available: health.memory_available,
            disk_total: health.disk_total,
            disk_available: health.disk_available,
            problem: health.problem.clone(),
            executors: health.executors.iter().map(executor).collect(),
        }
    }
}

/// Also of what is negative.
#[expect(clippy::cast_precision_loss, reason = "nobody needs nanoseconds of a century")]
fn signed_seconds(duration: &prost_types::Duration) -> f64 {
    duration.seconds as f64 + f64::from(duration.nanos) / 1e9
}

impl From<&SshTarget> for TargetView {
    fn from(target: &SshTarget) -> Self {
        Self { name: target.name.clone(), labels: target.labels.clone(), slots: target.slots }
    }
}

impl From<&Runner> for RunnerView {
    fn from(runner: &Runner) -> Self {
        let offered = runner.executors.clone().unwrap_or_default();
        Self {
            executors: executors(&offered),
            unhealthy: runner.unhealthy.iter().map(UnhealthyView::from).collect(),
            health: runner
                .health
                .as_ref()
                .map(|health| HealthView::new(health, runner.clock_offset.as_ref())),
            targets: offered.targets.iter().map(TargetView::from).collect(),
            id: runner.id.clone(),
            name: runner.name.clone(),
            state: runner_state(runner.state()),
            scheduling: SchedulingView::new(&runner.scheduling.clone().unwrap_or_default()),
            ephemeral: runner.ephemeral,
            labels: runner.labels.clone(),
            granted_labels: runner.granted_labels.clone(),
            hidden_labels: runner.hidden_labels.clone(),
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
