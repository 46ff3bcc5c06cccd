//! What a leader does: sessions, renewals, and giving leases away.

use crate::{
    Bug, LeaseModel, commands, runner,
    state::{
        Beat, Counted, Down, JobIndex, Leader, Lease, Phase, RunnerIndex, Session, State, Up, Which,
    },
};

/// Another leader begins. It knows of no session and no renewal, and gives every lease
/// its whole time.
pub(crate) fn begin_term(model: &LeaseModel, state: &mut State) {
    state.term += 1;
    let from_grant = model.has(Bug::NewLeaderCountsFromGrant);
    let counted = |old: &Counted| Counted {
        age: if from_grant { old.since_grant } else { 0 },
        expired: false,
        since_grant: old.since_grant,
    };
    let leases = state.leader.leases.iter().map(counted).collect();
    let sessions = vec![None; state.runners.len()];
    let renewed_before = if model.has(Bug::NoReadBarrier) { live(state) } else { 0 };
    state.leader = Leader { leases, sessions, renewed_before };
    for runner in &mut state.runners {
        runner.former = None;
    }
}

/// Grants a job, and tells its runner.
pub(crate) fn grant(state: &mut State, job: JobIndex, runner: RunnerIndex) {
    let lease = commands::grant(state, job, runner);
    state.leader.leases[job] = Counted::default();
    assign(state, job, lease, runner);
}

/// The command to take a lease away is committed.
pub(crate) fn lose_lease(model: &LeaseModel, state: &mut State, job: JobIndex) {
    commands::lose_lease(model, state, job);
    state.leader.leases[job] = Counted::default();
}

/// Takes the next message of a stream.
pub(crate) fn hear(model: &LeaseModel, state: &mut State, runner: RunnerIndex, which: Which) {
    let Some(stream) = state.runners[runner].stream_mut(which) else {
        return;
    };
    let (message, term) = (stream.up.remove(0), stream.term);
    if term != state.term {
        hear_after_term(state, runner, message);
        return;
    }
    if let Up::Hello(beat) = message {
        hello(model, state, runner, which, beat);
        return;
    }
    if state.leader.sessions[runner].is_none_or(|session| session.stream != which) {
        // Another session has taken its place: nothing counts that is still said.
        stream.up.clear();
        return;
    }
    match message {
        Up::Hello(_) => {}
        Up::Heartbeat(beat) => heartbeat(model, state, runner, beat),
        Up::Started(_, lease) | Up::Finished(_, lease, _) => {
            let answer = if commands::report(model, state, message) {
                forget_ended(state);
                matches!(message, Up::Finished(..)).then_some(Down::Settled(lease))
            } else {
                Some(Down::Stop(lease))
            };
            answer.into_iter().for_each(|answer| tell(state, runner, answer));
        }
    }
}

/// A leader of an earlier term hears something, and does not ask whether it still
/// leads. Only [`Bug::NoReadBarrier`] lets it come to that.
fn hear_after_term(state: &mut State, runner: RunnerIndex, message: Up) {
    if let (Up::Heartbeat(beat), Some(stream)) = (message, &mut state.runners[runner].newest) {
        let held = beat.held & state.leader.renewed_before;
        stream.down.push(Down::Ack(Beat { held, ..beat }));
    }
}

/// The leases that this leader would renew, one bit each.
fn live(state: &State) -> u8 {
    let counted = state.leader.leases.iter().zip(&state.jobs);
    let live = counted.filter(|(counted, _)| !counted.expired).filter_map(|(_, job)| job.holder());
    live.fold(0, |live, holder| live | 1 << holder.lease)
}

fn hello(model: &LeaseModel, state: &mut State, runner: RunnerIndex, which: Which, beat: Beat) {
    let session = &mut state.leader.sessions[runner];
    let overtaken =
        which == Which::Former && session.is_some_and(|session| session.stream == Which::Newest);
    if overtaken && !model.has(Bug::OldHelloTakesOver) {
        state.runners[runner].former = None;
        return;
    }
    *session = Some(Session { stream: which, beat: beat.age });
    if which == Which::Newest {
        runner::welcome(model, &mut state.runners[runner]);
    }
    // A hello may have been on its way for long: what it lacks may run by now.
    let difference = reconcile(model, state, runner, beat);
    if model.has(Bug::OldHelloTakesOver) {
        for job in difference.missing {
            lose_lease(model, state, job);
        }
    }
}

/// The read barrier has shown that this leader led after the heartbeat came.
fn heartbeat(model: &LeaseModel, state: &mut State, runner: RunnerIndex, beat: Beat) {
    if let Some(session) = &mut state.leader.sessions[runner] {
        session.beat = beat.age;
    }
    let difference = reconcile(model, state, runner, beat);
    for job in difference.missing {
        lose_lease(model, state, job);
    }
    let renews = beat.held != 0 && beat.age < model.limit();
    if renews && (!difference.has_expired || model.has(Bug::RenewedWhileGivenAway)) {
        tell(state, runner, Down::Ack(beat));
    }
}

/// What a runner holds against what it should hold.
#[derive(Default)]
struct Difference {
    /// Jobs that were started and are not held any more.
    missing: Vec<JobIndex>,
    /// Among what it holds is a lease that is being given away.
    has_expired: bool,
}

fn reconcile(model: &LeaseModel, state: &mut State, runner: RunnerIndex, beat: Beat) -> Difference {
    let mut difference = Difference::default();
    let mut surplus = beat.held;
    for job in 0..state.jobs.len() {
        let phase = state.jobs[job].phase;
        let holder = state.jobs[job].holder().filter(|holder| holder.runner == runner);
        let Some(holder) = holder else {
            continue;
        };
        if beat.names(holder.lease) {
            surplus &= !(1 << holder.lease);
            difference.has_expired |= !renew(state, job);
        } else if matches!(phase, Phase::Running(_)) {
            difference.missing.push(job);
        } else if renew(state, job) {
            assign(state, job, holder.lease, runner);
        }
    }
    for lease in 1..=model.size.leases() {
        if surplus & (1 << lease) != 0 {
            tell(state, runner, Down::Stop(lease));
        }
    }
    difference
}

/// Lets a lease go on as of now; false when it has run out.
fn renew(state: &mut State, job: JobIndex) -> bool {
    let counted = &mut state.leader.leases[job];
    if !counted.expired {
        counted.age = 0;
    }
    !counted.expired
}

/// Tells a runner to run a job. It dates the lease from its newest heartbeat.
fn assign(state: &mut State, job: JobIndex, lease: Lease, runner: RunnerIndex) {
    if let Some(session) = state.leader.sessions[runner] {
        tell(state, runner, Down::Assign { job, lease, age: session.beat });
    }
}

/// Sends a message down a runner's session. If the runner has given that up, it is lost.
fn tell(state: &mut State, runner: RunnerIndex, message: Down) {
    if state.leader.sessions[runner].is_some_and(|session| session.stream == Which::Newest)
        && let Some(stream) = &mut state.runners[runner].newest
    {
        stream.down.push(message);
    }
}

/// A lease that has ended is not counted any more.
fn forget_ended(state: &mut State) {
    for (counted, job) in state.leader.leases.iter_mut().zip(&state.jobs) {
        if job.holder().is_none() {
            *counted = Counted::default();
        }
    }
}
