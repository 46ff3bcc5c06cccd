//! What happens when faults end: everybody does what there is to do, in turn, and
//! time passes at one rate. Carried out from each state, it must end every job.

use crate::{
    Action, LeaseModel,
    state::{Phase, RunnerIndex, State, Which},
};

/// Whether every job ends when nothing fails any more; and also if one of several
/// runners is never heard of again.
pub(crate) fn every_job_ends(model: &LeaseModel, state: &State) -> bool {
    let runners: Vec<RunnerIndex> = (0..state.runners.len()).collect();
    let without = |lost| runners.iter().copied().filter(|&runner| runner != lost).collect();
    let others: Vec<Vec<RunnerIndex>> = match runners.len() {
        1 => Vec::new(),
        _ => runners.iter().copied().map(without).collect(),
    };
    ends_with(model, state.clone(), &runners)
        && others.iter().all(|left| ends_with(model, state.clone(), left))
}

/// Whether these runners bring every job to its end.
fn ends_with(model: &LeaseModel, mut state: State, present: &[RunnerIndex]) -> bool {
    // Each attempt may have to wait for its lease to run out, and then begins anew.
    let rounds = (model.size.ttl + 3) * model.size.leases() + 3;
    (0..rounds).any(|_| {
        round(model, &mut state, present);
        state.jobs.iter().all(|job| job.phase == Phase::Ended)
    })
}

/// Everybody makes the steps that they can make, and a unit of time passes.
fn round(model: &LeaseModel, state: &mut State, present: &[RunnerIndex]) {
    for &runner in present {
        stay_connected(model, state, runner);
        model.step(state, Action::Beat(runner));
        talk(model, state, runner);
        work(model, state, runner);
        talk(model, state, runner);
    }
    expire(model, state);
    grant(model, state, present);
    model.step(state, Action::Tick { slow: 0 });
}

/// The runner runs and has a stream to the leader.
fn stay_connected(model: &LeaseModel, state: &mut State, index: RunnerIndex) {
    model.step(state, Action::Restart(index));
    let runner = &mut state.runners[index];
    // What is still on its way has come to nothing.
    runner.former = None;
    if runner.newest.as_ref().is_none_or(|stream| stream.term != state.term) {
        model.step(state, Action::Connect(index));
    }
}

/// Both sides hear everything that they have to tell each other.
fn talk(model: &LeaseModel, state: &mut State, runner: RunnerIndex) {
    while let Some(stream) = &state.runners[runner].newest {
        if !stream.up.is_empty() {
            model.step(state, Action::Hear(runner, Which::Newest));
        } else if !stream.down.is_empty() {
            model.step(state, Action::Read(runner));
        } else {
            return;
        }
    }
}

/// What is prepared starts, and what runs ends.
fn work(model: &LeaseModel, state: &mut State, runner: RunnerIndex) {
    let mut actions = Vec::new();
    for _ in 0..2 {
        actions.clear();
        model.actions_of_runner(state, runner, &mut actions);
        for action in &actions {
            if let Action::Start(..) | Action::Exit(..) = action {
                model.step(state, *action);
            }
        }
    }
}

/// The leader takes away every lease that has run out.
fn expire(model: &LeaseModel, state: &mut State) {
    let mut actions = Vec::new();
    for _ in 0..2 {
        actions.clear();
        model.actions_of_leader(state, &mut actions);
        for action in &actions {
            if let Action::FindExpired(_) | Action::LoseLease(_) = action {
                model.step(state, *action);
            }
        }
    }
}

/// The leader gives waiting jobs to the runners that are there.
fn grant(model: &LeaseModel, state: &mut State, present: &[RunnerIndex]) {
    for _ in 0..state.jobs.len() {
        let mut actions = Vec::new();
        model.actions_of_leader(state, &mut actions);
        let is_due = |action: &&Action| matches!(action, Action::Grant(_, runner) if present.contains(runner));
        if let Some(action) = actions.iter().find(is_due) {
            model.step(state, *action);
        }
    }
}
