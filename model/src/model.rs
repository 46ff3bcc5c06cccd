//! The model as the checker wants it: where it begins, what can happen, what must hold.

use stateright::{Model, Property};

use crate::{
    Action, Bug, clocks, leader, properties, runner,
    state::{
        Age, Counted, Down, Job, Leader, Phase, Runner, RunnerIndex, Stage, State, Stream, Up,
        Which,
    },
};

/// How large the model is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Jobs, all accepted when it begins.
    pub jobs: usize,
    /// Runners with one slot each.
    pub runners: usize,
    /// Attempts that each job has.
    pub attempts: u8,
    /// A lease's time to live in units of time; runners stop one unit earlier, and a
    /// slow clock falls behind by one unit in that time.
    pub ttl: Age,
    /// How many messages wait in a stream at the runner before the leader takes more
    /// from it.
    pub unread: usize,
    /// Leaders, one after the other.
    pub terms: u8,
    /// Streams that break and runners that are killed. Delays, pauses and slow clocks
    /// do not count.
    pub faults: u8,
}

impl Size {
    /// The leases that there can be.
    pub(crate) fn leases(self) -> u8 {
        self.attempts * u8::try_from(self.jobs).unwrap_or(u8::MAX)
    }
}

/// The lease protocol.
#[derive(Clone, Debug)]
pub struct LeaseModel {
    /// How large it is.
    pub size: Size,
    /// A rule that is left out.
    pub bug: Option<Bug>,
}

impl LeaseModel {
    /// Whether this rule is left out.
    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// How long a runner counts on a lease.
    pub(crate) fn limit(&self) -> Age {
        if self.has(Bug::NoMargin) { self.size.ttl } else { self.size.ttl - 1 }
    }

    /// The first state.
    #[must_use]
    pub fn begin(&self) -> State {
        let Size { jobs, runners, ttl, .. } = self.size;
        let mut state = State {
            jobs: vec![Job { phase: Phase::Queued, attempts: 0, ends: 0 }; jobs],
            last_lease: 0,
            stale_report_counted: false,
            term: 1,
            leader: Leader {
                leases: vec![Counted::default(); jobs],
                sessions: vec![None; runners],
                renewed_before: 0,
            },
            runners: vec![Runner::default(); runners],
            faults_left: self.size.faults,
            until_slow: ttl - 1,
        };
        for runner in 0..runners {
            self.step(&mut state, Action::Connect(runner));
            self.step(&mut state, Action::Hear(runner, Which::Newest));
        }
        state
    }

    /// Carries out a step that is possible in this state.
    pub(crate) fn step(&self, state: &mut State, action: Action) {
        match action {
            Action::Tick { slow } => clocks::tick(self, state, slow),
            Action::NewTerm => leader::begin_term(self, state),
            Action::Grant(job, runner) => leader::grant(state, job, runner),
            Action::FindExpired(job) => state.leader.leases[job].expired = true,
            Action::LoseLease(job) => leader::lose_lease(self, state, job),
            Action::Hear(runner, which) => leader::hear(self, state, runner, which),
            Action::Read(runner) => runner::read(self, &mut state.runners[runner]),
            Action::Connect(runner) => {
                let term = state.term;
                let newest = state.runners[runner].newest.as_ref();
                if newest.is_some_and(|stream| stream.term == term) {
                    state.faults_left -= 1;
                }
                runner::connect(state, runner);
            }
            Action::Beat(runner) => runner::send_heartbeat(&mut state.runners[runner]),
            Action::Start(runner, lease) => runner::start(&mut state.runners[runner], lease),
            Action::Exit(runner, lease) => runner::exit(&mut state.runners[runner], lease),
            Action::Crash(runner) => {
                state.faults_left -= 1;
                runner::crash(self, state, runner);
            }
            Action::Restart(runner) => state.runners[runner].down = false,
        }
        for stream in state.runners.iter_mut().filter_map(|runner| runner.newest.as_mut()) {
            // What a leader hears after its term changes nothing.
            if stream.term != state.term && !self.has(Bug::NoReadBarrier) {
                stream.up.clear();
            }
        }
    }

    /// What the leader can do.
    pub(crate) fn actions_of_leader(&self, state: &State, actions: &mut Vec<Action>) {
        for (index, job) in state.jobs.iter().enumerate() {
            let Some(holder) = job.holder() else {
                continue;
            };
            let counted = state.leader.leases[index];
            if counted.age >= self.size.ttl && !counted.expired && !self.has(Bug::NeverTakenAway) {
                actions.push(Action::FindExpired(index));
            }
            let session = state.leader.sessions[holder.runner];
            let broken = session.is_none_or(|session| session.stream != Which::Newest);
            if counted.expired || broken && self.has(Bug::LostWithStream) {
                actions.push(Action::LoseLease(index));
            }
        }
        let queued = state.jobs.iter().position(|job| job.phase == Phase::Queued);
        for runner in 0..state.runners.len() {
            let busy =
                state.jobs.iter().filter_map(Job::holder).any(|holder| holder.runner == runner);
            let connected = state.leader.sessions[runner].is_some();
            if let Some(job) = queued.filter(|_| connected && !busy) {
                actions.push(Action::Grant(job, runner));
            }
        }
    }

    /// A leader whose term is over answers nothing, since it asks whether it still leads.
    fn hears(&self, state: &State, stream: &Stream) -> bool {
        stream.term == state.term || self.has(Bug::NoReadBarrier)
    }

    /// What a runner and its shims can do, and what can be heard of it.
    pub(crate) fn actions_of_runner(
        &self,
        state: &State,
        index: RunnerIndex,
        actions: &mut Vec<Action>,
    ) {
        let State { term, faults_left, .. } = *state;
        let runner = &state.runners[index];
        for attempt in &runner.attempts {
            match attempt.stage {
                Stage::Prepared if !runner.down && attempt.age < self.limit() => {
                    actions.push(Action::Start(index, attempt.lease));
                }
                Stage::Running => actions.push(Action::Exit(index, attempt.lease)),
                Stage::Prepared | Stage::Over(_) => {}
            }
        }
        for which in [Which::Newest, Which::Former] {
            let stream = runner.stream(which);
            if stream.is_some_and(|stream| {
                self.hears(state, stream)
                    && !stream.up.is_empty()
                    && stream.down.len() < self.size.unread
            }) {
                actions.push(Action::Hear(index, which));
            }
        }
        if runner.down {
            actions.push(Action::Restart(index));
            return;
        }
        if faults_left > 0 {
            actions.push(Action::Crash(index));
        }
        let is_current = runner.newest.as_ref().is_some_and(|stream| stream.term == term);
        if !is_current || faults_left > 0 {
            actions.push(Action::Connect(index));
        }
        if let Some(stream) = &runner.newest {
            if !stream.down.is_empty() {
                actions.push(Action::Read(index));
            }
            if self.hears(state, stream)
                && stream.open
                && !heartbeat_under_way(stream)
                && !state.is_bystander(index, self.size.attempts)
            {
                actions.push(Action::Beat(index));
            }
        }
    }
}

impl Model for LeaseModel {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![self.begin()]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        if state.nothing_is_left() {
            return;
        }
        let hosts = if state.until_slow == 0 { 1 << state.runners.len() } else { 1 };
        actions.extend((0..hosts).map(|slow| Action::Tick { slow }));
        if state.term < self.size.terms {
            actions.push(Action::NewTerm);
        }
        self.actions_of_leader(state, actions);
        for runner in 0..state.runners.len() {
            self.actions_of_runner(state, runner, actions);
        }
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        let mut next = state.clone();
        self.step(&mut next, action);
        next.forget_what_dates_nothing(self.size.attempts);
        Some(if self.bug.is_none() { next.representative() } else { next })
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::of(self)
    }
}

/// A runner waits for the answer to its heartbeat before it sends the next one.
fn heartbeat_under_way(stream: &Stream) -> bool {
    stream.up.iter().any(|up| matches!(up, Up::Heartbeat(_)))
        || stream.down.iter().any(|down| matches!(down, Down::Ack(_)))
}
