//! Which job goes to which runner: a pure function of the state and of who has
//! a session. Jobs are taken by priority, then arrival, of all queues that are not
//! paused; among the runners that suit, the one with the most free slots.
//!
//! The cost of a grant depends on the number of queues and runners, not on the length
//! of the queues.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, btree_set},
};

use baton_state::{Connection, Executor, JobId, Requirements, RunnerId, State, queue::Place};

/// Grants that were proposed and are not applied yet.
#[derive(Debug, Default)]
pub(super) struct InFlight(HashMap<JobId, RunnerId>);

impl InFlight {
    pub(super) fn begin(&mut self, job: JobId, runner: RunnerId) {
        self.0.insert(job, runner);
    }

    pub(super) fn end(&mut self, job: JobId) {
        self.0.remove(&job);
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

/// The next grants, at most `limit`, best first.
pub(super) fn matches(
    state: &State,
    has_session: impl Fn(&RunnerId) -> bool,
    in_flight: &InFlight,
    limit: usize,
) -> Vec<(JobId, RunnerId)> {
    let mut free = Free::new(state, has_session, in_flight);
    let mut grants = Vec::new();
    if free.slots.is_empty() || limit == 0 {
        return grants;
    }
    let (mut heads, mut sets) = (BinaryHeap::new(), Vec::new());
    for (requirements, projects) in state.queues().iter() {
        let before = heads.len();
        for (project, queue) in projects {
            if state.pause_of(project, requirements).is_none() {
                push_head(&mut heads, queue.ready().iter(), sets.len(), in_flight);
            }
        }
        if heads.len() > before {
            sets.push(Candidates::new(state, requirements, &mut free));
        }
    }
    while grants.len() < limit
        && let Some(Head { place: Reverse(place), queue, set }) = heads.pop()
    {
        // Without a runner the rest of this queue has none either.
        let Some(runner) = sets.get_mut(set).and_then(|it| it.take(&mut free)) else {
            continue;
        };
        grants.push((place.job, runner.clone()));
        push_head(&mut heads, queue, set, in_flight);
    }
    grants
}

/// What is free on the runners that have a session, while it is being given away.
struct Free<'a> {
    slots: HashMap<&'a RunnerId, usize>,
    /// Of those SSH targets that are asked for.
    targets: HashMap<(&'a RunnerId, &'a str), usize>,
    state: &'a State,
    /// Jobs that will be on an SSH target soon.
    promised: HashMap<(&'a RunnerId, &'a str), usize>,
}

impl<'a> Free<'a> {
    fn new(
        state: &'a State,
        has_session: impl Fn(&RunnerId) -> bool,
        in_flight: &'a InFlight,
    ) -> Self {
        let mut taken: HashMap<&RunnerId, usize> = HashMap::new();
        let mut promised: HashMap<(&RunnerId, &str), usize> = HashMap::new();
        for (job, runner) in &in_flight.0 {
            *taken.entry(runner).or_default() += 1;
            if let Some(Executor::Ssh(target)) =
                state.job(*job).map(|job| &job.spec.requirements.executor)
            {
                *promised.entry((runner, target)).or_default() += 1;
            }
        }
        let online = state
            .runners()
            .iter()
            .filter(|(id, runner)| runner.connection == Connection::Online && has_session(id))
            .filter(|(_, runner)| runner.takes_jobs());
        let slots = online.filter_map(|(id, runner)| {
            let taken = taken.get(id).copied().unwrap_or_default();
            let free = runner.free_slots().saturating_sub(taken);
            (free > 0).then_some((id, free))
        });
        Self { slots: slots.collect(), targets: HashMap::new(), state, promised }
    }

    /// Jobs with these requirements that the runner could take.
    fn on(&mut self, runner: &'a RunnerId, requirements: &'a Requirements) -> usize {
        let slots = self.slots.get(runner).copied().unwrap_or_default();
        slots.min(self.on_target(runner, requirements).map_or(usize::MAX, |free| *free))
    }

    fn take(&mut self, runner: &'a RunnerId, requirements: &'a Requirements) {
        if let Some(slots) = self.slots.get_mut(runner) {
            *slots -= 1;
        }
        if let Some(free) = self.on_target(runner, requirements) {
            *free -= 1;
        }
    }

    fn on_target(
        &mut self,
        runner: &'a RunnerId,
        requirements: &'a Requirements,
    ) -> Option<&mut usize> {
        let Executor::Ssh(target) = &requirements.executor else { return None };
        let place = (runner, target.as_str());
        let (state, promised) = (self.state, &self.promised);
        Some(self.targets.entry(place).or_insert_with(|| {
            let free = state.runner(runner).map_or(0, |runner| runner.free_on_target(target));
            free.saturating_sub(promised.get(&place).copied().unwrap_or_default())
        }))
    }
}

/// The first job of one queue that is not being granted already.
struct Head<'a> {
    place: Reverse<Place>,
    /// The jobs behind it.
    queue: btree_set::Iter<'a, Place>,
    /// What it requires, by number.
    set: usize,
}

impl PartialEq for Head<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.place == other.place
    }
}

impl Eq for Head<'_> {}

impl PartialOrd for Head<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head<'_> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.place.cmp(&other.place)
    }
}

fn push_head<'a>(
    heads: &mut BinaryHeap<Head<'a>>,
    mut queue: btree_set::Iter<'a, Place>,
    set: usize,
    in_flight: &InFlight,
) {
    if let Some(place) = queue.find(|place| !in_flight.0.contains_key(&place.job)) {
        heads.push(Head { place: Reverse(*place), queue, set });
    }
}

/// The runners that suit one requirement set, most free slots first. Other
/// sets take from the same runners, so a figure in here may be too high and
/// is checked when it comes up.
struct Candidates<'a> {
    requirements: &'a Requirements,
    runners: BinaryHeap<(usize, Reverse<&'a RunnerId>)>,
}

impl<'a> Candidates<'a> {
    fn new(state: &State, requirements: &'a Requirements, free: &mut Free<'a>) -> Self {
        let offers = |id: &RunnerId| {
            let runner = state.runner(id);
            runner.is_some_and(|it| it.offers(requirements) && it.ailment(requirements).is_none())
        };
        let suited: Vec<&RunnerId> = free.slots.keys().copied().filter(|id| offers(id)).collect();
        let runners = suited.into_iter().map(|id| (free.on(id, requirements), Reverse(id)));
        Self { requirements, runners: runners.collect() }
    }

    fn take(&mut self, free: &mut Free<'a>) -> Option<&'a RunnerId> {
        loop {
            let (believed, Reverse(id)) = self.runners.pop()?;
            match free.on(id, self.requirements) {
                0 => {}
                actual if actual < believed => self.runners.push((actual, Reverse(id))),
                actual => {
                    free.take(id, self.requirements);
                    self.runners.push((actual - 1, Reverse(id)));
                    return Some(id);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
