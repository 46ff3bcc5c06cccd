//! What a runner and its shims do. Its word reaches a shim at once here: a renewal
//! carries its own date, so one that comes late moves nothing.

use crate::{
    Bug, LeaseModel,
    network::give_up_stream,
    state::{Attempt, Beat, Down, Lease, Outcome, Runner, RunnerIndex, Stage, State, Stream, Up},
};

/// Opens a stream to the leader and says hello.
pub(crate) fn connect(state: &mut State, runner: RunnerIndex) {
    give_up_stream(state, runner);
    let term = state.term;
    let runner = &mut state.runners[runner];
    let up = vec![Up::Hello(beat(runner))];
    runner.newest = Some(Stream { term, open: false, up, down: Vec::new() });
}

/// Sends a heartbeat.
pub(crate) fn send_heartbeat(runner: &mut Runner) {
    let heartbeat = Up::Heartbeat(beat(runner));
    send(runner, heartbeat);
}

/// The runner dies; what it has on its disk and its shims do not.
pub(crate) fn crash(model: &LeaseModel, state: &mut State, runner: RunnerIndex) {
    give_up_stream(state, runner);
    let runner = &mut state.runners[runner];
    runner.down = true;
    for attempt in &mut runner.attempts {
        if attempt.stage == Stage::Prepared {
            // When its lease was renewed is not on the disk.
            attempt.age = if model.has(Bug::StartedUndated) { 0 } else { model.limit() };
        }
    }
}

/// An attempt's process starts.
pub(crate) fn start(runner: &mut Runner, lease: Lease) {
    set_stage(runner, lease, Stage::Running);
}

/// An attempt's process ends by itself.
pub(crate) fn exit(runner: &mut Runner, lease: Lease) {
    set_stage(runner, lease, Stage::Over(Outcome::Exited));
}

fn set_stage(runner: &mut Runner, lease: Lease, stage: Stage) {
    if let Some(attempt) = runner.attempts.iter_mut().find(|attempt| attempt.lease == lease) {
        attempt.stage = stage;
        if let Stage::Over(_) = stage {
            attempt.age = 0;
        }
        let attempt = *attempt;
        report(runner, attempt);
    }
}

/// The leader has opened the session; it is told everything that it may not know yet.
pub(crate) fn welcome(model: &LeaseModel, runner: &mut Runner) {
    if let Some(stream) = &mut runner.newest {
        stream.open = true;
    }
    if !model.has(Bug::ReportedOnce) {
        for attempt in runner.attempts.clone() {
            report(runner, attempt);
        }
    }
}

/// Takes the next message of its stream.
pub(crate) fn read(model: &LeaseModel, runner: &mut Runner) {
    let Some(stream) = runner.newest.as_mut().filter(|stream| !stream.down.is_empty()) else {
        return;
    };
    match stream.down.remove(0) {
        Down::Ack(beat) => {
            let age = if model.has(Bug::DatedByAnswer) { 0 } else { beat.age };
            renew(runner, Beat { age, ..beat });
        }
        Down::Assign { job, lease, age } => {
            let age = if model.has(Bug::DatedByAssignment) { 0 } else { age };
            if runner.attempts.iter().all(|attempt| attempt.lease != lease) {
                runner.attempts.push(Attempt { lease, job, stage: Stage::Prepared, age });
            }
        }
        // Whatever runs of it is killed.
        Down::Stop(lease) => runner.attempts.retain(|attempt| attempt.lease != lease),
        Down::Settled(lease) => runner
            .attempts
            .retain(|attempt| attempt.lease != lease || !matches!(attempt.stage, Stage::Over(_))),
    }
}

fn renew(runner: &mut Runner, beat: Beat) {
    for attempt in &mut runner.attempts {
        if beat.names(attempt.lease) {
            attempt.age = attempt.age.min(beat.age);
        }
    }
}

fn beat(runner: &Runner) -> Beat {
    let held = runner.attempts.iter().fold(0, |held, attempt| held | 1 << attempt.lease);
    Beat { age: 0, held }
}

/// Says how far an attempt is, if there is an open session; if not, the next one begins
/// with that.
pub(crate) fn report(runner: &mut Runner, attempt: Attempt) {
    let Attempt { job, lease, .. } = attempt;
    match attempt.stage {
        Stage::Prepared => {}
        Stage::Running => send(runner, Up::Started(job, lease)),
        Stage::Over(outcome) => send(runner, Up::Finished(job, lease, outcome)),
    }
}

fn send(runner: &mut Runner, message: Up) {
    if let Some(stream) = runner.newest.as_mut().filter(|stream| stream.open) {
        stream.up.push(message);
    }
}
