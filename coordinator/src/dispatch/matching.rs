//! Which job goes to which runner: a pure function of the state and of who has
//! a session. Queues are taken by priority, then arrival; among the runners
//! that suit, the one with the most free slots.
//!
//! The cost of a grant depends on the number of requirement sets and runners,
//! not on the length of the queues.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, btree_set},
    iter::Peekable,
};

use baton_state::{Connection, JobId, Requirements, RunnerId, State, queue::Place};

/// Grants that were proposed and are not applied yet.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    jobs: HashSet<JobId>,
    slots: HashMap<RunnerId, usize>,
}

impl InFlight {
    pub(super) fn begin(&mut self, job: JobId, runner: RunnerId) {
        self.jobs.insert(job);
        *self.slots.entry(runner).or_default() += 1;
    }

    pub(super) fn end(&mut self, job: JobId, runner: &RunnerId) {
        self.jobs.remove(&job);
        if let Some(slots) = self.slots.get_mut(runner) {
            *slots -= 1;
            if *slots == 0 {
                self.slots.remove(runner);
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }
}

/// The next grants, at most `limit`, best first.
pub(super) fn matches(
    state: &State,
    has_session: impl Fn(&RunnerId) -> bool,
    in_flight: &InFlight,
    limit: usize,
) -> Vec<(JobId, RunnerId)> {
    let mut free = free_slots(state, has_session, in_flight);
    let mut grants = Vec::new();
    if free.is_empty() || limit == 0 {
        return grants;
    }
    let mut heads = BinaryHeap::new();
    for (requirements, queue) in state.queues().ready() {
        let candidates = Candidates::new(state, requirements, &free);
        push_head(&mut heads, queue.iter().peekable(), candidates, in_flight);
    }
    while grants.len() < limit
        && let Some(Head { place: Reverse(place), queue, mut candidates }) = heads.pop()
    {
        // Without a runner the rest of this queue has none either.
        let Some(runner) = candidates.take(&mut free) else {
            continue;
        };
        grants.push((place.job, runner.clone()));
        push_head(&mut heads, queue, candidates, in_flight);
    }
    grants
}

fn free_slots<'a>(
    state: &'a State,
    has_session: impl Fn(&RunnerId) -> bool,
    in_flight: &InFlight,
) -> HashMap<&'a RunnerId, usize> {
    let online = state
        .runners()
        .iter()
        .filter(|(id, runner)| runner.connection == Connection::Online && has_session(id));
    online
        .filter_map(|(id, runner)| {
            let promised = in_flight.slots.get(id).copied().unwrap_or_default();
            let free = runner.free_slots().saturating_sub(promised);
            (free > 0).then_some((id, free))
        })
        .collect()
}

/// The first job of one queue that is not being granted already.
struct Head<'a> {
    place: Reverse<Place>,
    queue: Peekable<btree_set::Iter<'a, Place>>,
    candidates: Candidates<'a>,
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
    mut queue: Peekable<btree_set::Iter<'a, Place>>,
    candidates: Candidates<'a>,
    in_flight: &InFlight,
) {
    if let Some(place) = queue.find(|place| !in_flight.jobs.contains(&place.job)) {
        heads.push(Head { place: Reverse(*place), queue, candidates });
    }
}

/// The runners that suit one requirement set, most free slots first. Other
/// queues take from the same runners, so a figure in here may be too high and
/// is checked when it comes up.
struct Candidates<'a>(BinaryHeap<(usize, Reverse<&'a RunnerId>)>);

impl<'a> Candidates<'a> {
    fn new(
        state: &State,
        requirements: &Requirements,
        free: &HashMap<&'a RunnerId, usize>,
    ) -> Self {
        let suited = free
            .iter()
            .filter(|(id, _)| state.runner(id).is_some_and(|runner| runner.offers(requirements)));
        Self(suited.map(|(id, free)| (*free, Reverse(*id))).collect())
    }

    fn take(&mut self, free: &mut HashMap<&'a RunnerId, usize>) -> Option<&'a RunnerId> {
        loop {
            let (believed, Reverse(id)) = self.0.pop()?;
            let slots = free.get_mut(id)?;
            match *slots {
                0 => {}
                actual if actual < believed => self.0.push((actual, Reverse(id))),
                actual => {
                    *slots = actual - 1;
                    self.0.push((actual - 1, Reverse(id)));
                    return Some(id);
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "matching_tests.rs"]
mod tests;
