//! Where each runner was last heard of, so that a copy of a runner's data folder
//! cannot speak for it. A place is one data folder on one running host: the lock
//! in the folder keeps a second process out, so whoever comes from the same place
//! comes after the one before. Whoever comes from another place may be a second one.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use baton_proto::error::{ApiError, Reason};
use baton_state::{Connection, Runner, RunnerFacts, RunnerId};
use tokio::time::Instant;

/// One data folder on one running host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    boot_id: String,
    folder: String,
}

impl Place {
    pub(super) fn of(facts: &RunnerFacts) -> Self {
        Self { boot_id: facts.boot_id.clone(), folder: facts.place.clone() }
    }

    /// Where a runner still is as far as the state tells: with a session or with
    /// jobs. It is what a new leader goes by.
    pub(super) fn known(runner: &Runner) -> Option<Self> {
        let there = runner.connection == Connection::Online || !runner.leases.is_empty();
        there.then(|| Self::of(&runner.facts))
    }
}

/// Runners by where they were last heard of.
#[derive(Default)]
pub(super) struct Places {
    seen: Mutex<HashMap<RunnerId, Seen>>,
}

struct Seen {
    place: Place,
    heard: Instant,
    /// Who else wanted to be this runner, and since when.
    contender: Option<(Place, Instant)>,
}

/// A runner may speak for its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// As before, or for the first time.
    Here,
    /// It was elsewhere, and nothing was heard from there for long enough.
    Moved,
}

/// Why a runner may not speak for its id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conflict {
    /// Both run: the other was heard of after this one had asked for the first time.
    Copy,
    /// The other may be gone; that is certain after this time.
    NotYetFree(Duration),
}

impl Places {
    /// Whether a runner may open a session from `place`; from then on it counts
    /// as heard of there. `known` is where the state has it.
    pub(super) fn admit(
        &self,
        runner: &RunnerId,
        place: &Place,
        known: Option<Place>,
        ttl: Duration,
        now: Instant,
    ) -> Result<Admitted, Conflict> {
        let mut all = self.lock();
        // Not heard of since this leader began: it has its whole time again.
        let place_before = known.unwrap_or_else(|| place.clone());
        let seen = all.entry(runner.clone());
        let seen = seen.or_insert(Seen { place: place_before, heard: now, contender: None });
        admit(seen, place, ttl, now)
    }

    /// A heartbeat came over the session of this runner.
    pub(super) fn heard(&self, runner: &RunnerId, now: Instant) {
        if let Some(seen) = self.lock().get_mut(runner) {
            seen.heard = now;
        }
    }

    /// The runner is no longer known: it may come back from anywhere.
    pub(super) fn forget(&self, runner: &RunnerId) {
        self.lock().remove(runner);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunnerId, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn admit(
    seen: &mut Seen,
    place: &Place,
    ttl: Duration,
    now: Instant,
) -> Result<Admitted, Conflict> {
    let silent = now.duration_since(seen.heard);
    let admitted = if seen.place == *place {
        Admitted::Here
    } else if silent >= ttl {
        Admitted::Moved
    } else {
        let since = match &seen.contender {
            Some((other, since)) if other == place => *since,
            _ => now,
        };
        seen.contender = Some((place.clone(), since));
        return Err(if seen.heard > since {
            Conflict::Copy
        } else {
            Conflict::NotYetFree(ttl.saturating_sub(silent))
        });
    };
    *seen = Seen { place: place.clone(), heard: now, contender: None };
    Ok(admitted)
}

impl Conflict {
    /// What to tell the runner that is refused.
    pub(super) fn error(self, runner: &RunnerId) -> ApiError {
        match self {
            Self::Copy => ApiError::new(
                Reason::RunnerIdInUse,
                format!(
                    "runner {runner} is running with another data folder or on another host: \
                     the data folder of this one is a copy"
                ),
                "to have a second runner, give it an empty data folder, or remove the file \
                 runner-id from this one",
            ),
            Self::NotYetFree(left) => ApiError::new(
                Reason::RunnerIdNotYetFree,
                format!(
                    "runner {runner} was heard of with another data folder or on another host \
                     a moment ago"
                ),
                format!(
                    "if it was moved or its host restarted, it can connect within {}s; if both \
                     run, the data folder of one is a copy: give it an empty one",
                    left.as_secs() + 1
                ),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    fn place(boot_id: &str, folder: &str) -> Place {
        Place { boot_id: boot_id.to_owned(), folder: folder.to_owned() }
    }

    fn runner() -> RunnerId {
        RunnerId("r".to_owned())
    }

    /// Places with a runner that was just heard of in folder `a`.
    fn heard() -> (Places, Instant) {
        let (places, now) = (Places::default(), Instant::now());
        let first = places.admit(&runner(), &place("1", "a"), None, TTL, now);
        assert_eq!(first, Ok(Admitted::Here));
        (places, now)
    }

    #[tokio::test]
    async fn the_same_folder_on_the_same_boot_comes_back_at_once() {
        let (places, now) = heard();
        let again = places.admit(&runner(), &place("1", "a"), None, TTL, now);
        assert_eq!(again, Ok(Admitted::Here));
    }

    #[tokio::test]
    async fn another_folder_or_another_boot_waits_until_the_first_was_silent_for_its_time() {
        for other in [place("1", "b"), place("2", "a")] {
            let (places, now) = heard();
            let early = places.admit(&runner(), &other, None, TTL, now + SECOND);
            assert_eq!(early, Err(Conflict::NotYetFree(TTL - SECOND)));
            let late = places.admit(&runner(), &other, None, TTL, now + TTL);
            assert_eq!(late, Ok(Admitted::Moved));
            let back = places.admit(&runner(), &place("1", "a"), None, TTL, now + TTL + SECOND);
            assert!(back.is_err(), "the first is the stranger now");
        }
    }

    #[tokio::test]
    async fn who_asks_while_the_first_goes_on_speaking_is_a_copy() {
        let (places, now) = heard();
        let ask = |at| places.admit(&runner(), &place("1", "b"), None, TTL, at);
        assert!(matches!(ask(now + SECOND), Err(Conflict::NotYetFree(_))));
        assert!(matches!(ask(now + SECOND * 2), Err(Conflict::NotYetFree(_))));
        places.heard(&runner(), now + SECOND * 3);
        assert_eq!(ask(now + SECOND * 4), Err(Conflict::Copy));
    }

    #[tokio::test]
    async fn a_new_leader_goes_by_the_state() {
        let (places, now) = (Places::default(), Instant::now());
        let known = || Some(place("1", "a"));
        let other = |at| places.admit(&runner(), &place("1", "b"), known(), TTL, at);
        assert_eq!(other(now), Err(Conflict::NotYetFree(TTL)));
        let first = places.admit(&runner(), &place("1", "a"), known(), TTL, now + SECOND);
        assert_eq!(first, Ok(Admitted::Here));
        assert_eq!(other(now + SECOND), Err(Conflict::NotYetFree(TTL)));
    }

    #[tokio::test]
    async fn a_forgotten_runner_comes_back_from_anywhere() {
        let (places, now) = heard();
        places.forget(&runner());
        let other = places.admit(&runner(), &place("1", "b"), None, TTL, now);
        assert_eq!(other, Ok(Admitted::Here));
    }
}
