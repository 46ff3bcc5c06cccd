//! The files that this node still lacks of what there was when the others told all that
//! they have, and those that could not be fetched: what a node has to make up for before
//! its copies count. Never what is written meanwhile, so that it comes to its end under
//! load too.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::files::{FileName, Held};

/// The wait after the first failure; it doubles with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST: Duration = Duration::from_secs(10);
/// How often a file is looked at that grows on while it is fetched: its fetch has no end.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// As much of a file as there is to be had.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Goal {
    pub(super) sealed: bool,
    pub(super) length: u64,
}

/// Files that are lacking, and when to look at them again.
#[derive(Default)]
pub(super) struct Backlog {
    lacking: BTreeMap<FileName, Lack>,
    looks: BTreeSet<(Instant, FileName)>,
}

struct Lack {
    goal: Goal,
    look: Option<Instant>,
    /// The wait after the next failure.
    wait: Duration,
}

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.lacking.len()
    }

    pub(super) fn names(&self) -> Vec<FileName> {
        self.lacking.keys().copied().collect()
    }

    /// A file is lacking until it is here as far as `goal` says.
    pub(super) fn add(&mut self, name: FileName, goal: Goal) {
        let lack = self.lacking.entry(name).or_insert(Lack { goal, look: None, wait: FIRST });
        lack.goal = lack.goal.max(goal);
        if !lack.goal.sealed && lack.look.is_none() {
            self.look_after(name, LOOK_EVERY);
        }
    }

    /// A file is not lacking, or there is no more of it to be had.
    pub(super) fn remove(&mut self, name: FileName) {
        if let Some(at) = self.lacking.remove(&name).and_then(|lack| lack.look) {
            self.looks.remove(&(at, name));
        }
    }

    /// Takes note of what is here of a file.
    pub(super) fn holds(&mut self, name: FileName, held: Option<&Held>) {
        let is_reached = |goal: Goal| {
            held.is_some_and(|held| {
                held.sealed.is_some() || !goal.sealed && held.length >= goal.length
            })
        };
        if self.lacking.get(&name).is_some_and(|lack| is_reached(lack.goal)) {
            self.remove(name);
        }
    }

    /// A file could not be fetched as far as `goal` says: it is tried again.
    pub(super) fn failed(&mut self, name: FileName, goal: Goal) {
        self.add(name, goal);
        if let Some(lack) = self.lacking.get_mut(&name) {
            let wait = lack.wait;
            lack.wait = (wait * 2).min(LONGEST);
            self.look_after(name, wait);
        }
    }

    /// When [`Backlog::due`] has something to give.
    pub(super) fn next(&self) -> Option<Instant> {
        self.looks.first().map(|(at, _)| *at)
    }

    /// The files to look at now.
    pub(super) fn due(&mut self) -> Vec<FileName> {
        let now = Instant::now();
        let mut due = Vec::new();
        while let Some((at, name)) = self.looks.first().copied().filter(|(at, _)| *at <= now) {
            self.looks.remove(&(at, name));
            due.push(name);
        }
        for name in &due {
            if let Some(lack) = self.lacking.get_mut(name) {
                lack.look = None;
                if !lack.goal.sealed {
                    self.look_after(*name, LOOK_EVERY);
                }
            }
        }
        due
    }

    fn look_after(&mut self, name: FileName, wait: Duration) {
        let at = Instant::now() + wait;
        if let Some(lack) = self.lacking.get_mut(&name) {
            if let Some(before) = lack.look.replace(at) {
                self.looks.remove(&(before, name));
            }
            self.looks.insert((at, name));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use tokio::time::sleep_until;

    use super::*;

    const WHOLE: Goal = Goal { sealed: true, length: 10 };
    const GROWING: Goal = Goal { sealed: false, length: 10 };

    fn name() -> FileName {
        FileName::Upload { digest: blake3::hash(b"x").into() }
    }

    fn held(length: u64, is_sealed: bool) -> Held {
        let sealed = is_sealed.then(|| blake3::hash(b"x").into());
        Held { length, durable: Some(length), sealed, modified: SystemTime::UNIX_EPOCH }
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_lacking_until_it_is_here_as_far_as_it_was_there() {
        let mut backlog = Backlog::default();
        backlog.add(name(), GROWING);
        backlog.holds(name(), None);
        backlog.holds(name(), Some(&held(9, false)));
        assert_eq!(backlog.len(), 1);
        backlog.holds(name(), Some(&held(10, false)));
        assert_eq!((backlog.len(), backlog.next()), (0, None));

        backlog.add(name(), GROWING);
        backlog.add(name(), WHOLE);
        backlog.add(name(), GROWING);
        backlog.holds(name(), Some(&held(12, false)));
        assert_eq!(backlog.len(), 1, "its seal is missing");
        backlog.holds(name(), Some(&held(10, true)));
        assert_eq!((backlog.len(), backlog.next()), (0, None));
    }

    #[tokio::test(start_paused = true)]
    async fn what_failed_is_tried_again_after_longer_and_longer_waits() {
        let mut backlog = Backlog::default();
        backlog.add(name(), WHOLE);
        assert_eq!(backlog.next(), None, "its fetch comes to an end");
        for wait in [1, 2, 4, 8, 10, 10] {
            let start = Instant::now();
            backlog.failed(name(), WHOLE);
            assert_eq!(backlog.due(), []);
            sleep_until(backlog.next().unwrap()).await;
            assert_eq!(start.elapsed().as_secs(), wait);
            assert_eq!(backlog.due(), [name()]);
            assert_eq!(backlog.next(), None);
        }
        assert_eq!(backlog.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_that_grows_on_is_looked_at_again_and_again() {
        let mut backlog = Backlog::default();
        backlog.add(name(), GROWING);
        for _ in 0..3 {
            sleep_until(backlog.next().unwrap()).await;
            assert_eq!(backlog.due(), [name()]);
        }
        backlog.remove(name());
        assert_eq!(backlog.next(), None);
    }
}
