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
    choose::choose,
    copy::{CopyError, copy},
    members::Members,
    quorum::Has,
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
/// The wait while nobody can say whether a file is needed, as where there is no leader.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(1);

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

/// Decides what is fetched and when.
pub(super) struct Fetcher {
    source: Source,
    queues: Queues,
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
        Self { source: Source { shared, members, wanted, crowded }, queues: Queues::default() }
    }

    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.source.shared);
        let mut fetches = JoinSet::new();
        let mut compare = interval(COMPARE_EVERY);
        compare.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut disk = shared.disk.subscribe();
        let mut waits_until = None;
        loop {
            // In this order none holds up another for good: a comparison is rare, no more
            // fetches end than were begun, and with what somebody waits for goes the rest.
            tokio::select! {
                biased;
                _ = compare.tick() => {
                    shared.open.close_idle();
                    self.consider(shared.view.names(), false).await;
                }
                // The disk may have room by now, or has.
                () = sleep_until(waits_until.unwrap_or_else(Instant::now)),
                    if waits_until.is_some() => {}
                Ok(()) = disk.changed() => {}
                Some(fetched) = fetches.join_next() => {
                    if let Ok(name) = fetched {
                        if self.queues.finish(name) {
                            shared.told.put([name]);
                        }
                        shared.view.wake(name);
                    }
                }
                names = shared.urgent.take() => {
                    self.consider(names, true).await;
                    self.consider(shared.told.take_now(), false).await;
                }
                names = shared.told.take() => self.consider(names, false).await,
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
                    source.fetch(name, kind).await;
                    name
                });
            }
            self.source.crowded.store(self.queues.is_crowded(), Ordering::Relaxed);
        }
    }

    /// Queues those files of which something is missing here.
    async fn consider(&mut self, names: Vec<FileName>, urgent: bool) {
        for names in names.chunks(LOOKED_AT) {
            let held = match self.source.shared.files.held(names.to_vec()).await {
                Ok(held) => held,
                Err(error) => {
                    warn!(%error, "cannot compare the stored files with the others'");
                    return;
                }
            };
            for (name, held) in held {
                let having = self.source.shared.view.having(name);
                self.source.take_time_over(name, held.as_ref(), &having).await;
                let chosen = self.source.choose(name, held.as_ref(), &having, &BTreeSet::new());
                if let Some((_, has)) = chosen {
                    let kind = match has.sealed {
                        _ if urgent => Kind::Urgent,
                        Some(_) => Kind::Whole,
                        None => Kind::Growing,
                    };
                    self.queues.push(name, kind);
                }
            }
        }
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
    async fn fetch(&self, name: FileName, kind: Kind) {
        let (mut failed, mut round) = (BTreeSet::new(), 0);
        // Whoever waits for it wants it.
        let mut is_wanted = kind == Kind::Urgent;
        loop {
            let held = match self.shared.files.holds(name).await {
                Ok(held) => held,
                Err(error) => return warn!(file = %name, %error, "cannot look at a stored file"),
            };
            let having = self.shared.view.having(name);
            let Some((node, has)) = self.choose(name, held.as_ref(), &having, &failed) else {
                failed.clear();
                let left = self.choose(name, held.as_ref(), &having, &failed);
                if left.is_none() || round == ROUNDS {
                    return;
                }
                sleep(RETRY * 2_u32.pow(round)).await;
                round += 1;
                continue;
            };
            if !is_wanted {
                match self.wanted.is_wanted(name, from_millis(has.modified)).await {
                    Ok(true) => is_wanted = true,
                    Ok(false) => return debug!(file = %name, "not fetched: nothing needs it"),
                    Err(error) => {
                        debug!(file = %name, %error, "not known yet whether it is needed");
                        sleep(ASK_AGAIN_AFTER).await;
                        return self.shared.told.put([name]);
                    }
                }
            }
            let is_crowded = || self.crowded.load(Ordering::Relaxed);
            let copied = copy(&self.shared, &*self.members, name, (node, has), is_crowded).await;
            self.shared.view.wake(name);
            match copied {
                // Others wait: it is told again if there is more.
                Ok(()) if is_crowded() => return self.shared.told.put([name]),
                // Retention did that: is it wanted?
                Err(CopyError::Here(FilesError::Removed(_))) => is_wanted = false,
                Ok(())
                | Err(CopyError::Here(FilesError::Superseded | FilesError::Restarted(_))) => {}
                // It waits with the others for room.
                Err(CopyError::Here(FilesError::DiskFull)) => {
                    self.shared.disk.refused();
                    return self.shared.told.put([name]);
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
