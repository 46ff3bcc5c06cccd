//! The replicated state's commands. That a command is committed by the newest leader
//! alone, and by all of the cluster at one point, is Raft's to keep and not modelled.

use crate::{
    Bug, LeaseModel,
    state::{Holder, Job, JobIndex, Lease, Outcome, Phase, RunnerIndex, State, Up},
};

/// Gives a waiting job to a runner; the new lease.
pub(crate) fn grant(state: &mut State, job: JobIndex, runner: RunnerIndex) -> Lease {
    state.last_lease += 1;
    let lease = state.last_lease;
    state.jobs[job].phase = Phase::Leased(Holder { lease, runner });
    state.jobs[job].attempts += 1;
    lease
}

/// Takes a job's lease away.
pub(crate) fn lose_lease(model: &LeaseModel, state: &mut State, job: JobIndex) {
    requeue_or_end(model, &mut state.jobs[job]);
}

/// Records what a runner reported; false when it is refused, since its lease is not
/// the job's current one.
pub(crate) fn report(model: &LeaseModel, state: &mut State, report: Up) -> bool {
    let (Up::Started(job, lease) | Up::Finished(job, lease, _)) = report else {
        return false;
    };
    let job = &mut state.jobs[job];
    let is_current = job.holder().is_some_and(|holder| holder.lease == lease);
    if !is_current && !model.has(Bug::NoFencing) {
        return false;
    }
    let before = job.clone();
    match (report, job.phase) {
        (Up::Finished(_, _, Outcome::Exited), _) => end(job),
        (Up::Finished(_, _, Outcome::Lost), _) => requeue_or_end(model, job),
        (_, Phase::Leased(holder)) => job.phase = Phase::Running(holder),
        (_, Phase::Queued | Phase::Running(_) | Phase::Ended) => {}
    }
    state.stale_report_counted |= !is_current && *job != before;
    true
}

fn requeue_or_end(model: &LeaseModel, job: &mut Job) {
    if job.attempts < model.size.attempts {
        job.phase = Phase::Queued;
    } else {
        end(job);
    }
}

fn end(job: &mut Job) {
    job.phase = Phase::Ended;
    job.ends = (job.ends + 1).min(2);
}
