//! What must hold of every state, and what some state must reach.

use stateright::Property;

use crate::{
    LeaseModel, recovery,
    state::{Down, Job, JobIndex, Lease, Stage, State},
};

/// No two processes of one job run at once.
pub const EXCLUSIVE: &str = "exclusive execution";
/// A process that runs has its job's current lease: nothing healthy is given away.
pub const NOT_GIVEN_AWAY: &str = "a lease is taken away only when its process is gone";
/// A stale report counts for nothing.
pub const FENCED: &str = "a stale lease's report changes nothing";
/// No job ends twice.
pub const ENDS_ONCE: &str = "a job ends at most once";
/// No job is lost.
pub const ENDS: &str = "once the faults end, every job ends";
/// The model reaches this, or it would show little.
pub const SECOND_ATTEMPT: &str = "a job is started again after its lease was lost";
/// The model reaches this, or it would show little.
pub const CARRIED_OVER: &str = "a new leader renews the lease of a process that runs";

/// The properties of a model of this size.
pub(crate) fn of(model: &LeaseModel) -> Vec<Property<LeaseModel>> {
    let mut properties = vec![
        Property::always(EXCLUSIVE, is_exclusive),
        Property::always(NOT_GIVEN_AWAY, |_, state| {
            running(state).all(|(job, lease)| is_current(&state.jobs[job], lease))
        }),
        Property::always(FENCED, |_, state: &State| !state.stale_report_counted),
        Property::always(ENDS_ONCE, |_, state: &State| state.jobs.iter().all(|job| job.ends <= 1)),
        Property::always(ENDS, recovery::every_job_ends),
    ];
    if model.size.attempts > 1 {
        properties.push(Property::sometimes(SECOND_ATTEMPT, |_, state| {
            running(state).any(|(job, _)| state.jobs[job].attempts > 1)
        }));
    }
    if model.size.terms > 1 {
        properties.push(Property::sometimes(CARRIED_OVER, |_, state: &State| {
            state.term > 1 && running(state).any(|(_, lease)| is_renewed(state, lease))
        }));
    }
    properties
}

fn is_exclusive(_: &LeaseModel, state: &State) -> bool {
    (0..state.jobs.len()).all(|job| running(state).filter(|of| of.0 == job).count() <= 1)
}

fn is_current(job: &Job, lease: Lease) -> bool {
    job.holder().is_some_and(|holder| holder.lease == lease)
}

/// The answer to a heartbeat that names this lease is on its way.
fn is_renewed(state: &State, lease: Lease) -> bool {
    let streams = state.runners.iter().filter_map(|runner| runner.newest.as_ref());
    streams
        .filter(|stream| stream.term == state.term)
        .flat_map(|stream| &stream.down)
        .any(|down| matches!(down, Down::Ack(beat) if beat.names(lease)))
}

/// The processes that run, of which job and under which lease.
fn running(state: &State) -> impl Iterator<Item = (JobIndex, Lease)> {
    let attempts = state.runners.iter().flat_map(|runner| &runner.attempts);
    attempts
        .filter(|attempt| attempt.stage == Stage::Running)
        .map(|attempt| (attempt.job, attempt.lease))
}
