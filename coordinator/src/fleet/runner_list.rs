//! The runners, and what changes of them. Each has a heartbeat every few seconds and a busy one
//! other leases all the time, so that is gathered.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use baton_proto::v1;
use baton_state::{Event, EventKind, RunnerId, Timestamp};
use tokio::time::Instant;

use super::{Fleet, journal::News};

/// Runners in one answer.
const AT_ONCE: usize = 1_000;

/// How often leases are told that are others.
const LEASES_EVERY: Duration = Duration::from_secs(1);
/// How often heartbeats and health are told.
const HEARTBEATS_EVERY: Duration = Duration::from_secs(10);

pub(super) struct RunnerList {
    /// All that was told before is to be forgotten.
    is_stale: bool,
    /// The last heartbeat that was told of each.
    told: BTreeMap<RunnerId, Option<Timestamp>>,
    /// Those that are to be told as soon as may be.
    changed: BTreeSet<RunnerId>,
    /// Those of which only the leases are others.
    busy: BTreeSet<RunnerId>,
    leases_from: Instant,
    heartbeats_from: Instant,
}

impl RunnerList {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            is_stale: true,
            told: BTreeMap::new(),
            changed: BTreeSet::new(),
            busy: BTreeSet::new(),
            leases_from: now,
            heartbeats_from: now,
        }
    }

    /// What is to be told at `now` of what has happened.
    pub(super) fn changes(
        &mut self,
        fleet: &Fleet,
        news: &News,
        now: Instant,
    ) -> Option<v1::RunnerChanges> {
        match news {
            News::TooMuch => self.is_stale = true,
            News::Events(events) => self.note(fleet, events),
        }
        if self.leases_from <= now && !self.busy.is_empty() {
            self.leases_from = now + LEASES_EVERY;
            self.changed.append(&mut self.busy);
        }
        let state = fleet.jobs.raft.state();
        let is_beat = |runner: &RunnerId| {
            let heartbeat = fleet.dispatch.last_heard(runner);
            self.told.get(runner).is_none_or(|told| *told != heartbeat)
        };
        if self.is_stale {
            self.heartbeats_from = now + HEARTBEATS_EVERY;
            self.told.clear();
            self.changed.extend(state.runners().keys().cloned());
        } else if self.heartbeats_from <= now {
            self.heartbeats_from = now + HEARTBEATS_EVERY;
            let beat: Vec<_> = state.runners().keys().filter(|id| is_beat(id)).cloned().collect();
            self.changed.extend(beat);
        }
        let mut changes = v1::RunnerChanges {
            reset: std::mem::take(&mut self.is_stale),
            ..v1::RunnerChanges::default()
        };
        while changes.changed.len() < AT_ONCE
            && let Some(id) = self.changed.pop_first()
        {
            match state.runner(&id) {
                Some(runner) => {
                    self.told.insert(id.clone(), fleet.dispatch.last_heard(&id));
                    changes.changed.push(fleet.dispatch.shown(&state, runner));
                }
                None if self.told.remove(&id).is_some() => changes.gone.push(id.0),
                None => {}
            }
        }
        (changes != v1::RunnerChanges::default()).then_some(changes)
    }

    /// There are more to be told than one answer takes.
    pub(super) fn has_more(&self) -> bool {
        !self.changed.is_empty()
    }

    fn note(&mut self, fleet: &Fleet, events: &[Arc<Event>]) {
        let mut started = Vec::new();
        for event in events {
            match &event.kind {
                EventKind::JobStarted { job, .. } => started.push(*job),
                kind => {
                    let Some(runner) = kind.runner() else { continue };
                    let set = if kind.job().is_some() { &mut self.busy } else { &mut self.changed };
                    if !set.contains(runner) {
                        set.insert(runner.clone());
                    }
                }
            }
        }
        if started.is_empty() {
            return;
        }
        let state = fleet.jobs.raft.state();
        let on = started.iter().filter_map(|job| state.job(*job)?.current());
        self.busy.extend(on.map(|attempt| attempt.runner.clone()));
    }
}
