//! Time. Coordinators' clocks are the measure; those of the runners' hosts may be
//! slower, within a bound. A faster one only kills earlier.

use crate::{
    Bug, LeaseModel,
    runner::report,
    state::{Age, Attempt, Beat, Down, Outcome, Runner, Stage, State, Stream, Up},
};

/// One unit of time passes; a bit in `slow` for each host whose clock stays behind.
pub(crate) fn tick(model: &LeaseModel, state: &mut State, slow: u8) {
    let ttl = model.size.ttl;
    state.until_slow = if state.until_slow == 0 { ttl - 1 } else { state.until_slow - 1 };
    for (counted, job) in state.leader.leases.iter_mut().zip(&state.jobs) {
        if job.holder().is_some() {
            if !counted.expired {
                counted.age = (counted.age + 1).min(ttl);
            }
            if model.has(Bug::NewLeaderCountsFromGrant) {
                counted.since_grant = (counted.since_grant + 1).min(ttl);
            }
        }
    }
    for runner in 0..state.runners.len() {
        if slow & (1 << runner) == 0 {
            if let Some(session) = &mut state.leader.sessions[runner] {
                older(model, &mut session.beat);
            }
            host(model, &mut state.runners[runner]);
        }
    }
}

/// One unit of time passes at a host.
fn host(model: &LeaseModel, runner: &mut Runner) {
    for stream in [&mut runner.newest, &mut runner.former].into_iter().flatten() {
        messages(model, stream);
    }
    let mut killed = Vec::new();
    for attempt in &mut runner.attempts {
        if let Stage::Over(_) = attempt.stage {
            continue;
        }
        older(model, &mut attempt.age);
        if attempt.stage == Stage::Running && attempt.age >= model.limit() {
            *attempt = Attempt { stage: Stage::Over(Outcome::Lost), age: 0, ..*attempt };
            killed.push(*attempt);
        }
    }
    for attempt in killed {
        report(runner, attempt);
    }
}

fn messages(model: &LeaseModel, stream: &mut Stream) {
    // An answer as old as that renews nothing.
    stream.down.retain(|down| !matches!(down, Down::Ack(beat) if beat.age + 1 >= model.limit()));
    for message in &mut stream.up {
        if let Up::Hello(Beat { age, .. }) | Up::Heartbeat(Beat { age, .. }) = message {
            older(model, age);
        }
    }
    for message in &mut stream.down {
        if let Down::Ack(Beat { age, .. }) | Down::Assign { age, .. } = message {
            older(model, age);
        }
    }
}

fn older(model: &LeaseModel, age: &mut Age) {
    *age = (*age + 1).min(model.limit());
}
