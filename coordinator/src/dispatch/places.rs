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
use baton_state::{Connection, Runner, RunnerFacts, RunnerId, Timestamp};
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
    /// The newest connect from there, 0 for none yet.
    connect: u64,
    heard: Instant,
    /// The same for people; none as long as only the state has it there.
    heard_at: Option<Timestamp>,
    contender: Option<Contender>,
}

/// Who else wanted to be a runner.
struct Contender {
    place: Place,
    since: Instant,
    asked: Instant,
}

/// A runner that wants to open a session.
#[derive(Clone, Debug)]
pub(super) struct Arrival {
    pub(super) place: Place,
    /// Which connect of that place it is.
    pub(super) connect: u64,
    pub(super) at: Timestamp,
    pub(super) now: Instant,
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
    /// It has connected again since; this was held up on its way.
    Overtaken,
}

impl Places {
    /// Whether a runner may open a session; from then on it counts as heard of at
    /// its place. `known` is where the state has it.
    pub(super) fn admit(
        &self,
        runner: &RunnerId,
        arrival: &Arrival,
        known: Option<Place>,
        ttl: Duration,
    ) -> Result<Admitted, Conflict> {
        let mut all = self.lock();
        // Not heard of since this leader began: it has its whole time again.
        let place = known.unwrap_or_else(|| arrival.place.clone());
        let seen = all.entry(runner.clone()).or_insert(Seen {
            place,
            connect: 0,
            heard: arrival.now,
            heard_at: None,
            contender: None,
        });
        admit(seen, arrival, ttl)
    }

    /// Whether this is the one that was admitted last.
    pub(super) fn is_newest(&self, runner: &RunnerId, arrival: &Arrival) -> bool {
        let all = self.lock();
        let newest = all.get(runner).map(|seen| (&seen.place, seen.connect));
        newest == Some((&arrival.place, arrival.connect))
    }

    /// A heartbeat came over the session of this runner.
    pub(super) fn heard(&self, runner: &RunnerId, at: Timestamp, now: Instant) {
        if let Some(seen) = self.lock().get_mut(runner) {
            seen.heard = now;
            seen.heard_at = Some(at);
        }
    }

    /// When a runner was last heard of.
    pub(super) fn last_heard(&self, runner: &RunnerId) -> Option<Timestamp> {
        self.lock().get(runner).and_then(|seen| seen.heard_at)
    }

    /// The runner is no longer known: it may come back from anywhere.
    pub(super) fn forget(&self, runner: &RunnerId) {
        self.lock().remove(runner);
    }

    /// Nothing that was heard counts any more: a new leader goes by the state.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunnerId, Seen>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn admit(seen: &mut Seen, arrival: &Arrival, ttl: Duration) -> Result<Admitted, Conflict> {
    let Arrival { place, connect, at, now } = arrival.clone();
    let silent = now.duration_since(seen.heard);
    let is_here = seen.place == place;
    if silent < ttl {
        // After that, nobody is there to be replaced, and a clock that was set back,
        // as in a container of its own time, must not keep a runner out.
        if is_here && connect <= seen.connect {
            return Err(Conflict::Overtaken);
        }
        if !is_here {
            return Err(contend(seen, place, ttl, now));
        }
    }
    *seen = Seen { place, connect, heard: now, heard_at: Some(at), contender: None };
    Ok(if is_here { Admitted::Here } else { Admitted::Moved })
}

/// Whoever asked within `ttl` is taken to have been there since.
fn contend(seen: &mut Seen, place: Place, ttl: Duration, now: Instant) -> Conflict {
    let before = seen.contender.take();
    let is_same = |other: &Contender| other.place == place && now.duration_since(other.asked) < ttl;
    let since = before.filter(is_same).map_or(now, |other| other.since);
    seen.contender = Some(Contender { place, since, asked: now });
    if seen.heard > since {
        Conflict::Copy
    } else {
        Conflict::NotYetFree(ttl.saturating_sub(now.duration_since(seen.heard)))
    }
}

/// What a session is told that is not, or no longer, the runner's newest.
pub(super) fn replaced() -> ApiError {
    ApiError::new(
        Reason::SessionReplaced,
        "another session of this runner took over, or this one was silent",
        "make sure that no two runners share a data folder",
    )
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
            Self::Overtaken => replaced(),
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

    struct Fixture {
        places: Places,
        begin: Instant,
        connects: u64,
        known: Option<Place>,
    }

    impl Fixture {
        fn new(known: Option<Place>) -> Self {
            Self { places: Places::default(), begin: Instant::now(), connects: 0, known }
        }

        /// With a runner that was just heard of in folder `a`.
        fn heard() -> Self {
            let mut fixture = Self::new(None);
            assert_eq!(fixture.ask("1", "a", Duration::ZERO), Ok(Admitted::Here));
            fixture
        }

        fn ask(
            &mut self,
            boot_id: &str,
            folder: &str,
            after: Duration,
        ) -> Result<Admitted, Conflict> {
            self.connects += 1;
            self.ask_as(self.connects, place(boot_id, folder), after)
        }

        fn ask_as(
            &self,
            connect: u64,
            place: Place,
            after: Duration,
        ) -> Result<Admitted, Conflict> {
            let now = self.begin + after;
            let arrival = Arrival { place, connect, at: Timestamp(connect), now };
            self.places.admit(&runner(), &arrival, self.known.clone(), TTL)
        }

        fn hear(&self, after: Duration) {
            self.places.heard(&runner(), Timestamp(1000), self.begin + after);
        }
    }

    #[tokio::test]
    async fn the_same_folder_on_the_same_boot_comes_back_at_once() {
        assert_eq!(Fixture::heard().ask("1", "a", Duration::ZERO), Ok(Admitted::Here));
    }

    #[tokio::test]
    async fn another_folder_or_another_boot_waits_until_the_first_was_silent_for_its_time() {
        for (boot_id, folder) in [("1", "b"), ("2", "a")] {
            let mut fixture = Fixture::heard();
            let early = fixture.ask(boot_id, folder, SECOND);
            assert_eq!(early, Err(Conflict::NotYetFree(TTL - SECOND)));
            assert_eq!(fixture.ask(boot_id, folder, TTL), Ok(Admitted::Moved));
            let back = fixture.ask("1", "a", TTL + SECOND);
            assert!(back.is_err(), "the first is the stranger now");
        }
    }

    #[tokio::test]
    async fn who_asks_while_the_first_goes_on_speaking_is_a_copy() {
        let mut fixture = Fixture::heard();
        for after in [SECOND, SECOND * 2] {
            let asked = fixture.ask("1", "b", after);
            assert!(matches!(asked, Err(Conflict::NotYetFree(_))));
        }
        fixture.hear(SECOND * 3);
        assert_eq!(fixture.ask("1", "b", SECOND * 4), Err(Conflict::Copy));
    }

    #[tokio::test]
    async fn who_asked_long_ago_is_not_told_that_it_is_a_copy_of_one_that_has_gone_since() {
        let mut fixture = Fixture::heard();
        assert!(fixture.ask("1", "b", SECOND).is_err());
        fixture.hear(TTL * 10);
        let later = fixture.ask("1", "b", TTL * 10 + SECOND);
        assert_eq!(later, Err(Conflict::NotYetFree(TTL - SECOND)));
        assert_eq!(fixture.ask("1", "b", TTL * 11), Ok(Admitted::Moved));
    }

    #[tokio::test]
    async fn a_hello_that_was_overtaken_is_refused() {
        let mut fixture = Fixture::heard();
        assert_eq!(fixture.ask("1", "a", SECOND), Ok(Admitted::Here));
        for connect in [1, 2] {
            let late = fixture.ask_as(connect, place("1", "a"), SECOND);
            assert_eq!(late, Err(Conflict::Overtaken));
        }
        assert_eq!(fixture.ask_as(3, place("1", "a"), SECOND), Ok(Admitted::Here));
    }

    #[tokio::test]
    async fn a_clock_that_was_set_back_keeps_a_runner_out_for_its_time_only() {
        let fixture = Fixture::heard();
        assert_eq!(fixture.ask_as(1, place("1", "a"), TTL - SECOND), Err(Conflict::Overtaken));
        assert_eq!(fixture.ask_as(1, place("1", "a"), TTL), Ok(Admitted::Here));
    }

    #[tokio::test]
    async fn when_a_runner_was_heard_of_is_known_until_it_is_forgotten() {
        let fixture = Fixture::heard();
        assert_eq!(fixture.places.last_heard(&runner()), Some(Timestamp(1)));
        fixture.hear(SECOND);
        assert_eq!(fixture.places.last_heard(&runner()), Some(Timestamp(1000)));
        fixture.places.forget(&runner());
        assert_eq!(fixture.places.last_heard(&runner()), None);
    }

    #[tokio::test]
    async fn a_new_leader_goes_by_the_state() {
        let mut fixture = Fixture::new(Some(place("1", "a")));
        assert_eq!(fixture.ask("1", "b", Duration::ZERO), Err(Conflict::NotYetFree(TTL)));
        assert_eq!(fixture.places.last_heard(&runner()), None, "nobody was there yet");
        assert_eq!(fixture.ask("1", "a", SECOND), Ok(Admitted::Here));
        assert_eq!(fixture.ask("1", "b", SECOND), Err(Conflict::NotYetFree(TTL)));
    }

    #[tokio::test]
    async fn a_forgotten_runner_comes_back_from_anywhere() {
        let mut fixture = Fixture::heard();
        fixture.places.forget(&runner());
        assert_eq!(fixture.ask("1", "b", Duration::ZERO), Ok(Admitted::Here));
    }
}
