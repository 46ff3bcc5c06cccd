//! Runners and what they hold.

use baton_proto::v1::{Runner, RunnerState};
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
