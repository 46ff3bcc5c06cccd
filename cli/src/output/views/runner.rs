//! Runners and what they hold.

use baton_proto::v1::{Executors, Runner, RunnerState, SshTarget};
use jiff::Timestamp;
use serde::Serialize;

use super::{job_state, optional_time};

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
    pub(crate) executors: Vec<&'static str>,
    pub(crate) targets: Vec<TargetView>,
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

/// A runner that was removed.
#[derive(Debug, Serialize)]
pub(crate) struct RemovedView {
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
            targets: offered.targets.iter().map(TargetView::from).collect(),
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
