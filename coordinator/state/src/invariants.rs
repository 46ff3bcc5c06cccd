//! What must hold of every state, whatever commands led to it. Tests and the
//! simulator call this after every step.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    command::{FLEET_REQUESTS_REMEMBERED, LABELS_MAX, PAUSED_MAX},
    ids::{Lease, RunnerId},
    job::{Job, Phase},
    runner::Runner,
    state::State,
};

/// Checks a state.
///
/// # Errors
/// A sentence about what is wrong.
pub fn check(state: &State) -> Result<(), String> {
    let mut held: BTreeMap<&RunnerId, Vec<Lease>> = BTreeMap::new();
    let mut queued = 0;
    for (id, job) in &state.jobs {
        if *id != job.id {
            return Err(format!("job {} is filed under {id}", job.id));
        }
        check_job(job)?;
        match job.phase {
            Phase::Queued { .. } => queued += 1,
            Phase::Leased | Phase::Running => {
                let attempt = job.current().ok_or("a leased job has an attempt")?;
                held.entry(&attempt.runner).or_default().push(attempt.lease);
            }
            Phase::Finished { .. } => {}
        }
    }
    if queued != state.queues.len() {
        return Err(format!("{queued} jobs wait, the queues hold {}", state.queues.len()));
    }
    for (id, runner) in &state.runners {
        let mut leases = held.remove(id).unwrap_or_default();
        leases.sort_unstable();
        if !leases.iter().eq(runner.leases.keys()) {
            return Err(format!("runner {id} and its jobs disagree about its leases"));
        }
    }
    if let Some(runner) = held.into_keys().next() {
        return Err(format!("a lease is held by {runner}, which is no runner"));
    }
    check_leases(state)?;
    state.runners.values().try_for_each(check_runner)?;
    check_requests(state)?;
    check_members(state)?;
    if state.paused.len() > PAUSED_MAX {
        return Err("more queues are paused than may be".to_owned());
    }
    let mut rebuilt = state.clone();
    rebuilt.relink();
    if rebuilt != *state {
        return Err("what follows from the jobs is not what is kept".to_owned());
    }
    Ok(())
}

/// What must hold of a job by itself.
fn check_job(job: &Job) -> Result<(), String> {
    let id = job.id;
    if job.attempts_used() > job.spec.attempts as usize {
        return Err(format!("job {id} had more attempts than it may"));
    }
    if !job.attempts.is_sorted_by(|a, b| a.lease < b.lease) {
        return Err(format!("the leases of job {id} do not grow"));
    }
    let live = job.attempts.iter().filter(|attempt| attempt.outcome.is_none()).count();
    let expected = usize::from(matches!(job.phase, Phase::Leased | Phase::Running));
    if live != expected {
        return Err(format!("job {id} is {:?} and has {live} live leases", job.phase));
    }
    if job.attempts.iter().any(|attempt| attempt.outcome.is_none() && attempt.artifacts.is_some()) {
        return Err(format!("an attempt of job {id} has artifacts and has not ended"));
    }
    if job.spec.requirements.level > job.spec.level() {
        return Err(format!("job {id} asks for a newer runner than it needs"));
    }
    if job.cancellation.is_some() && matches!(job.phase, Phase::Queued { .. }) {
        return Err(format!("job {id} is cancelled and waits for a runner"));
    }
    Ok(())
}

/// What must hold of a runner by itself.
fn check_runner(runner: &Runner) -> Result<(), String> {
    let id = &runner.facts.id;
    if !runner.granted.is_disjoint(&runner.hidden) {
        return Err(format!("a label of runner {id} is granted and hidden"));
    }
    if runner.granted.len().max(runner.hidden.len()) > LABELS_MAX {
        return Err(format!("more labels of runner {id} are granted or hidden than may be"));
    }
    if runner.served && !runner.facts.ephemeral {
        return Err(format!("runner {id} had its only job and may have more"));
    }
    Ok(())
}

/// A lease is one entry of the log: one job's, and not ahead of it.
fn check_leases(state: &State) -> Result<(), String> {
    let mut granted = BTreeSet::new();
    for attempt in state.jobs.values().flat_map(|job| &job.attempts) {
        let lease = attempt.lease;
        if lease.0 > state.applied {
            return Err(format!("lease {lease} was granted by an entry that is not applied"));
        }
        if !granted.insert(lease) {
            return Err(format!("lease {lease} was granted twice"));
        }
    }
    Ok(())
}

/// A cluster has a name and somebody in it, and a number stands for one coordinator.
fn check_members(state: &State) -> Result<(), String> {
    if state.cluster_id.is_empty() != state.members.is_empty() {
        return Err("a cluster without a member, or members without a cluster".to_owned());
    }
    if let Some(node) = state.members.keys().find(|node| **node > state.newest_node) {
        return Err(format!("member {node} has a number that was not given yet"));
    }
    if let Some((node, _)) = state.members.iter().find(|(_, member)| member.level < state.level) {
        return Err(format!("member {node} does not know commands that are in use"));
    }
    let instances: BTreeSet<_> = state.members.values().map(|member| &member.instance).collect();
    if instances.len() != state.members.len() {
        return Err("two members are the same coordinator".to_owned());
    }
    Ok(())
}

/// A key is taken exactly as long as the job of its request is here, or, when it
/// was taken after the job's end, until it is evicted itself.
fn check_requests(state: &State) -> Result<(), String> {
    let mut taken = BTreeMap::new();
    for job in state.jobs.values() {
        for request in &job.keys {
            taken.insert(request.key.clone(), (request.digest, job.id));
        }
    }
    for (index, key) in &state.late {
        let (digest, id) =
            state.requests.get(key).copied().ok_or("a late key stands for nothing")?;
        if *index > state.applied || state.jobs.get(&id).is_some_and(|job| !job.is_finished()) {
            return Err(format!("a key of job {id} was taken late before the job's end"));
        }
        if taken.insert(key.clone(), (digest, id)).is_some() {
            return Err(format!("a key of job {id} was taken twice"));
        }
    }
    if taken != state.requests {
        return Err("the taken keys are not those of the jobs' requests".to_owned());
    }
    if let Some(key) = state.fleet_requests.keys().find(|key| taken.contains_key(*key)) {
        return Err(format!("the key {key} stands for a job and for something else"));
    }
    if state.fleet_requests.len() > FLEET_REQUESTS_REMEMBERED {
        return Err("more requests about the fleet are remembered than may be".to_owned());
    }
    Ok(())
}
