//! Fetches what this node lacks: a bounded number of files at once, each from
//! whoever has more of it, and from another when that one fails.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use baton_state::NodeId;
use tokio::{
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep, sleep_until},
};
use tracing::{debug, warn};

use super::{
    Shared,
    backlog::{Backlog, Goal},
    choose::choose,
    copy::{CopyError, copy},
    members::Members,
    quorum::Has,
    view::Listers,
    wanted::{Wanted, from_millis, to_millis},
};
use crate::files::{FileName, FilesError, Held};

/// How often everything is compared again, for what could not be fetched when it
/// was told.
const COMPARE_EVERY: Duration = Duration::from_secs(10 * 60);
/// Files looked at in one go.
const LOOKED_AT: usize = 1024;
/// How often everybody who has a file is asked for it before it is left for later.
const ROUNDS: u32 = 4;
const RETRY: Duration = Duration::from_millis(200);

/// Files that are fetched in the same way share their places.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    /// Somebody waits for it.
    Urgent,
    /// It is sealed: a copy from begin to end.
    Whole,
    /// It may grow on.
    Growing,
}

impl Kind {
    const ALL: [Self; 3] = [Self::Urgent, Self::Whole, Self::Growing];

    const fn places(self) -> usize {
        match self {
            Self::Urgent => 8,
            Self::Whole => 4,
            Self::Growing => 64,
        }
    }
}

/// The files that wait for a place, and those that have one.
#[derive(Default)]
struct Queues {
    waiting: BTreeMap<Kind, VecDeque<FileName>>,
    /// What waits, and as what.
    queued: BTreeMap<FileName, Kind>,
    running: BTreeMap<FileName, Kind>,
    /// Something was told of these while they were fetched.
    again: BTreeSet<FileName>,
}

impl Queues {
    fn push(&mut self, name: FileName, kind: Kind) {
        if self.running.contains_key(&name) {
            self.again.insert(name);
            return;
        }
        let before = self.queued.get(&name).copied();
        // What waits already keeps its place, unless somebody waits for it now.
        if before.is_none() || (kind == Kind::Urgent && before != Some(Kind::Urgent)) {
            self.queued.insert(name, kind);
            self.waiting.entry(kind).or_default().push_back(name);
        }
    }

    /// The next file to fetch, if there is a place for it.
    fn pop(&mut self) -> Option<(FileName, Kind)> {
        for kind in Kind::ALL {
            let running = self.running.values().filter(|running| **running == kind).count();
            let waiting = self.waiting.entry(kind).or_default();
            while running < kind.places() {
                let Some(name) = waiting.pop_front() else { break };
                // It may have been moved to another queue.
                if self.queued.get(&name) == Some(&kind) {
                    self.queued.remove(&name);
                    self.running.insert(name, kind);
                    return Some((name, kind));
                }
            }
        }
        None
    }

    /// Whether something was told of it meanwhile.
    fn finish(&mut self, name: FileName) -> bool {
        self.running.remove(&name);
        self.again.remove(&name)
    }

    fn is_crowded(&self) -> bool {
        self.waiting.get(&Kind::Growing).is_some_and(|waiting| !waiting.is_empty())
    }
}

/// Why files are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    /// Somebody told of them, or it is time to.
    Told,
    /// They are of the list of all that a node has.
    Listed,
    /// Somebody waits for them.
    Urgent,
}

/// What came of a fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// Nobody has more of it, or nothing needs it.
    Done,
    /// It made room for others and was told again.
    Yielded,
    /// The disk is full; it was told again and waits for room.
    NoRoom,
    /// Nobody gave it, or it is not known whether it is needed.
    Failed,
}

/// Decides what is fetched and when.
pub(super) struct Fetcher {
    source: Source,
    queues: Queues,
    backlog: Backlog,
    /// Who has told all, as far as that was looked at.
    listers: Listers,
}

/// What a fetch needs.
#[derive(Clone)]
struct Source {
    shared: Arc<Shared>,
    members: Arc<dyn Members>,
    wanted: Arc<dyn Wanted>,
    /// Growing files wait for a place.
    crowded: Arc<AtomicBool>,
}

impl Fetcher {
    pub(super) fn new(
        shared: &Arc<Shared>,
        members: Arc<dyn Members>,
        wanted: Arc<dyn Wanted>,
    ) -> Self {
        let (shared, crowded) = (Arc::clone(shared), Arc::default());
        Self {
            source: Source { shared, members, wanted, crowded },
            queues: Queues::default(),
            backlog: Backlog::default(),
            listers: Listers::default(),
        }
    }

    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.source.shared);
        let mut fetches = JoinSet::new();
        let mut compare = interval(COMPARE_EVERY);
        compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut disk = shared.disk.subscribe();
        let mut waits_until = None;
        let (mut lists, mut standing) = (shared.view.lists(), shared.standing.clone());
        self.survey().await;
        loop {
            self.publish();
            // In this order none holds up another for good: a comparison is rare, no more
            // fetches end than were begun, and with what somebody waits for goes the rest.
            tokio::select! {
                biased;
                _ = compare.tick() => {
                    shared.open.close_idle();
                    self.consider(shared.view.names(), Cause::Told).await;
                }
                // The disk may have room by now, or has.
                () = sleep_until(waits_until.unwrap_or_else(Instant::now)),
                    if waits_until.is_some() => {}
                Ok(()) = disk.changed() => {}
                Some(fetched) = fetches.join_next() => {
                    if let Ok((name, outcome)) = fetched {
                        self.ended(name, outcome);
                        shared.view.wake(name);
                    }
                }
                Ok(()) = lists.changed() => self.survey().await,
                Ok(()) = standing.changed() => self.survey().await,
                names = shared.urgent.take() => {
                    self.consider(names, Cause::Urgent).await;
                    self.consider_waiting().await;
                }
                () = sleep_until(self.backlog.next().unwrap_or_else(Instant::now)),
                    if self.backlog.next().is_some() => self.consider_waiting().await,
                names = shared.listed.take() => {
                    self.consider(names, Cause::Listed).await;
                    self.consider_waiting().await;
                }
                names = shared.told.take() => self.consider(names, Cause::Told).await,
            }
            let state = *disk.borrow_and_update();
            // In this order: a wait that ends in between is not slept through.
            waits_until = state.waits_until();
            let places = state.places();
            while self.queues.running.len() < places
                && let Some((name, kind)) = self.queues.pop()
            {
                let source = self.source.clone();
                fetches.spawn(async move {
                    let outcome = source.fetch(name, kind).await;
                    (name, outcome)
                });
            }
            self.source.crowded.store(self.queues.is_crowded(), Ordering::Relaxed);
        }
    }

    /// Tells how much is lacking, once everybody has told what there is.
    fn publish(&self) {
        let lacking = self.listers.is_complete.then_some(self.backlog.len() as u64);
        self.source.shared.lacking.send_if_modified(|before| {
            let changed = *before != lacking;
            *before = lacking;
            changed
        });
    }

    /// Looks at who has told all, and at what they told.
    async fn survey(&mut self) {
        let shared = Arc::clone(&self.source.shared);
        let listers = shared.view.listers(&shared.standing.borrow().clone());
        // In this order: what is in a list was put before its end is seen.
        self.consider(shared.listed.take_now(), Cause::Listed).await;
        if !self.listers.told.is_subset(&listers.told) {
            // Who is gone may have been the last one to have them.
            self.consider(self.backlog.names(), Cause::Told).await;
        }
        self.listers = listers;
    }

    /// A fetch has ended.
    fn ended(&mut self, name: FileName, outcome: Outcome) {
        let is_told_again = self.queues.finish(name);
        match outcome {
            Outcome::Done if !is_told_again => self.backlog.remove(name),
            Outcome::Done | Outcome::Yielded => {}
            Outcome::NoRoom => self.backlog.add(name, self.source.goal(name)),
            // Whatever was told meanwhile: it is tried again after a wait.
            Outcome::Failed => return self.backlog.failed(name, self.source.goal(name)),
        }
        if is_told_again {
            self.source.shared.told.put([name]);
        }
    }

    /// Looks at what waits by now and what is due, except what somebody waits for.
    async fn consider_waiting(&mut self) {
        let shared = Arc::clone(&self.source.shared);
        let due = self.backlog.due();
        self.consider(due, Cause::Told).await;
        self.consider(shared.listed.take_now(), Cause::Listed).await;
        self.consider(shared.told.take_now(), Cause::Told).await;
    }

    /// Queues those files of which something is missing here.
    async fn consider(&mut self, names: Vec<FileName>, cause: Cause) {
        for names in names.chunks(LOOKED_AT) {
            let held = match self.source.shared.files.held(names.to_vec()).await {
                Ok(held) => held,
                Err(error) => {
                    warn!(%error, "cannot compare the stored files with the others'");
                    for name in names {
                        self.backlog.failed(*name, self.source.goal(*name));
                    }
                    continue;
                }
            };
            for (name, held) in held {
                self.consider_one(name, held.as_ref(), cause).await;
            }
        }
    }

    async fn consider_one(&mut self, name: FileName, held: Option<&Held>, cause: Cause) {
        let having = self.source.shared.view.having(name);
        self.source.take_time_over(name, held, &having).await;
        let Some((_, has)) = self.source.choose(name, held, &having, &BTreeSet::new()) else {
            return self.backlog.remove(name);
        };
        if cause == Cause::Listed || self.source.shared.disk.is_full() {
            self.backlog.add(name, self.source.goal(name));
        }
        self.backlog.holds(name, held);
        let kind = match has.sealed {
            _ if cause == Cause::Urgent => Kind::Urgent,
            Some(_) => Kind::Whole,
            None => Kind::Growing,
        };
        self.queues.push(name, kind);
    }
}

impl Source {
    fn choose(
        &self,
        name: FileName,
        held: Option<&Held>,
        having: &[(NodeId, Has)],
        failed: &BTreeSet<NodeId>,
    ) -> Option<(NodeId, Has)> {
        let leader = self.shared.standing.borrow().leader;
        choose(name, held, having, leader, failed)
    }

    /// As much as the others have of a file.
    fn goal(&self, name: FileName) -> Goal {
        let (length, sealed) = self.shared.view.most(name);
        Goal { sealed, length }
    }

    /// Has an archive here count as wanted when it was last wanted anywhere.
    async fn take_time_over(&self, name: FileName, held: Option<&Held>, having: &[(NodeId, Has)]) {
        let (FileName::Upload { .. }, Some(held)) = (name, held) else { return };
        let same =
            having.iter().filter(|(_, has)| has.sealed.is_some() && has.sealed == held.sealed);
        let newest = same.map(|(_, has)| has.modified).max().unwrap_or(0);
        if newest > to_millis(held.modified)
            && let Err(error) = self.shared.files.renew(name, from_millis(newest)).await
        {
            warn!(file = %name, %error, "cannot note that an archive is wanted");
        }
    }

    /// Fetches one file, until nobody has more of it.
    async fn fetch(&self, name: FileName, kind: Kind) -> Outcome {
        let (mut failed, mut round) = (BTreeSet::new(), 0);
        // Whoever waits for it wants it.
        let mut is_wanted = kind == Kind::Urgent;
        loop {
            let held = match self.shared.files.holds(name).await {
                Ok(held) => held,
                Err(error) => {
                    warn!(file = %name, %error, "cannot look at a stored file");
                    return Outcome::Failed;
                }
            };
            let having = self.shared.view.having(name);
            let Some((node, has)) = self.choose(name, held.as_ref(), &having, &failed) else {
                failed.clear();
                let left = self.choose(name, held.as_ref(), &having, &failed);
                if left.is_none() {
                    return Outcome::Done;
                }
                if round == ROUNDS {
                    return Outcome::Failed;
                }
                sleep(RETRY * 2_u32.pow(round)).await;
                round += 1;
                continue;
            };
            if !is_wanted {
                match self.wanted.is_wanted(name, from_millis(has.modified)).await {
                    Ok(true) => is_wanted = true,
                    Ok(false) => {
                        debug!(file = %name, "not fetched: nothing needs it");
                        return Outcome::Done;
                    }
                    Err(error) => {
                        debug!(file = %name, %error, "not known yet whether it is needed");
                        return Outcome::Failed;
                    }
                }
            }
            let is_crowded = || self.crowded.load(Ordering::Relaxed);
            let copied = copy(&self.shared, &*self.members, name, (node, has), is_crowded).await;
            self.shared.view.wake(name);
            match copied {
                // Others wait: it is told again if there is more.
                Ok(()) if is_crowded() => {
                    self.shared.told.put([name]);
                    return Outcome::Yielded;
                }
                // Retention did that: is it wanted?
                Err(CopyError::Here(FilesError::Removed(_))) => is_wanted = false,
                Ok(())
                | Err(CopyError::Here(FilesError::Superseded | FilesError::Restarted(_))) => {}
                // It waits with the others for room.
                Err(CopyError::Here(FilesError::DiskFull)) => {
                    self.shared.disk.refused();
                    self.shared.told.put([name]);
                    return Outcome::NoRoom;
                }
                Err(error) => {
                    debug!(file = %name, %node, %error, "a member did not give a file");
                    failed.insert(node);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: u64) -> FileName {
        FileName::Upload { digest: blake3::hash(&number.to_be_bytes()).into() }
    }

    #[test]
    fn no_more_files_are_fetched_at_once_than_there_are_places() {
        for kind in Kind::ALL {
            let mut queues = Queues::default();
            for number in 0..100 {
                queues.push(name(number), kind);
            }
            let first: Vec<_> = std::iter::from_fn(|| queues.pop()).collect();
            assert_eq!(first.len(), kind.places());
            assert!(!queues.finish(first[0].0));
            assert_eq!(queues.pop(), Some((name(kind.places() as u64), kind)), "first come, first");
            assert_eq!(queues.pop(), None);
        }
    }

    #[test]
    fn a_file_is_fetched_once_at_a_time_and_again_when_more_was_told() {
        let mut queues = Queues::default();
        queues.push(name(1), Kind::Growing);
        queues.push(name(1), Kind::Growing);
        assert!(queues.pop().is_some());
        assert_eq!(queues.pop(), None);
        queues.push(name(1), Kind::Growing);
        assert_eq!(queues.pop(), None);
        assert!(queues.finish(name(1)));
        assert!(!queues.finish(name(1)));
    }

    #[test]
    fn what_somebody_waits_for_does_not_wait_for_the_others() {
        let mut queues = Queues::default();
        for number in 0..10 {
            queues.push(name(number), Kind::Whole);
        }
        while queues.pop().is_some() {}
        queues.push(name(9), Kind::Urgent);
        assert_eq!(queues.pop(), Some((name(9), Kind::Urgent)));
        while let Some((running, _)) = queues.running.iter().map(|(n, k)| (*n, *k)).next() {
            queues.finish(running);
            while queues.pop().is_some_and(|(popped, _)| popped != name(9)) {}
        }
        assert!(queues.queued.is_empty());
    }
}
