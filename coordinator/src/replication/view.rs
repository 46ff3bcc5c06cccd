//! What the other members have, as they have told, and who waits for it.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use baton_state::{NodeId, Timestamp};
use tokio::sync::{Notify, watch};

use super::{
    quorum::{Has, Standing},
    wanted::{from_millis, is_fresh},
};
use crate::files::{Digest, FileName};

/// What the others have. What a node told counts only while it is connected: when it
/// comes back it tells everything again, and may have lost some of it.
#[derive(Default)]
pub(super) struct View {
    known: Mutex<Known>,
    /// Changes when a node begins to tell, has told all, or is gone.
    lists: watch::Sender<()>,
    /// Somebody wants to know now what those have that are gone.
    retry: Notify,
}

#[derive(Default)]
struct Known {
    nodes: BTreeMap<NodeId, Node>,
    waiting: BTreeMap<FileName, watch::Sender<()>>,
}

#[derive(Default)]
struct Node {
    files: BTreeMap<FileName, Has>,
    listing: Listing,
}

#[derive(Default, PartialEq, Eq)]
enum Listing {
    /// It was not reached yet, or has not told all.
    #[default]
    Awaited,
    Told,
    /// It cannot be reached.
    Gone,
    /// It could not be reached, and somebody wants to know whether it can be now.
    Retried,
}

/// Who has told all.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Listers {
    pub(super) told: BTreeSet<NodeId>,
    /// All have that can be reached, and this node knows who there is.
    pub(super) is_complete: bool,
}

impl View {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node begins to tell.
    pub(super) fn begin(&self, node: NodeId) {
        self.lock().nodes.insert(node, Node::default());
        self.lists.send_replace(());
    }

    /// A node has told of some files; `None` is one that it has nothing of.
    pub(super) fn tell(&self, node: NodeId, told: Vec<(FileName, Option<Has>)>) {
        let mut known = self.lock();
        let Known { nodes, waiting } = &mut *known;
        let files = &mut nodes.entry(node).or_default().files;
        for (name, has) in told {
            match has {
                Some(has) => files.insert(name, has),
                None => files.remove(&name),
            };
            wake(waiting, name);
        }
    }

    /// A node has told everything.
    pub(super) fn listed(&self, node: NodeId) {
        self.lock().nodes.entry(node).or_default().listing = Listing::Told;
        self.lists.send_replace(());
    }

    /// A node cannot be reached.
    pub(super) fn gone(&self, node: NodeId) {
        let listing = Listing::Gone;
        self.lock().nodes.insert(node, Node { listing, ..Node::default() });
        self.lists.send_replace(());
    }

    /// Has those tried again that could not be reached.
    pub(super) fn reach(&self) {
        for node in self.lock().nodes.values_mut() {
            if node.listing == Listing::Gone {
                node.listing = Listing::Retried;
            }
        }
        self.retry.notify_waiters();
    }

    /// Returns when those that cannot be reached are to be tried again.
    pub(super) async fn wants_retry(&self) {
        self.retry.notified().await;
    }

    /// A node is a member no more.
    pub(super) fn forget(&self, node: NodeId) {
        self.lock().nodes.remove(&node);
        self.lists.send_replace(());
    }

    /// Changes when somebody tells of the file, or [`View::wake`] is called.
    pub(super) fn subscribe(&self, name: FileName) -> watch::Receiver<()> {
        let waiting = &mut self.lock().waiting;
        // Those whose last watcher has left go when somebody comes.
        if waiting.len() >= 1024 && waiting.len().is_power_of_two() {
            waiting.retain(|_, sender| sender.receiver_count() > 0);
        }
        waiting.entry(name).or_default().subscribe()
    }

    /// Something is new about a file here.
    pub(super) fn wake(&self, name: FileName) {
        wake(&mut self.lock().waiting, name);
    }

    /// Changes when a node begins to tell, has told all, or is gone.
    pub(super) fn lists(&self) -> watch::Receiver<()> {
        self.lists.subscribe()
    }

    /// Whether all have told all, except those that cannot be reached.
    pub(super) fn is_settled(&self) -> bool {
        let is_settled = |node: &Node| matches!(node.listing, Listing::Told | Listing::Gone);
        self.lock().nodes.values().all(is_settled)
    }

    /// Who has told all. Until this node votes it does not know who there is.
    pub(super) fn listers(&self, standing: &Standing) -> Listers {
        let known = self.lock();
        let told = known.nodes.iter().filter(|(_, node)| node.listing == Listing::Told);
        let others_known = standing
            .voters
            .iter()
            .all(|voter| *voter == standing.this || known.nodes.contains_key(voter));
        Listers {
            told: told.map(|(id, _)| *id).collect(),
            is_complete: standing.voters.contains(&standing.this)
                && others_known
                && known.nodes.values().all(|node| node.listing != Listing::Awaited),
        }
    }

    /// The most that anybody has of a file, and whether somebody has it sealed.
    pub(super) fn most(&self, name: FileName) -> (u64, bool) {
        let having = self.having(name);
        let most = having.iter().map(|(_, has)| has.length).max();
        (most.unwrap_or(0), having.iter().any(|(_, has)| has.sealed.is_some()))
    }

    /// Who has something of a file.
    pub(super) fn having(&self, name: FileName) -> Vec<(NodeId, Has)> {
        let known = self.lock();
        let having = |(id, node): (&NodeId, &Node)| node.files.get(&name).map(|has| (*id, *has));
        known.nodes.iter().filter_map(having).collect()
    }

    /// All files that somebody has.
    pub(super) fn names(&self) -> Vec<FileName> {
        let known = self.lock();
        known.nodes.values().flat_map(|node| node.files.keys().copied()).collect()
    }

    /// Bytes of a file on disk at a majority, of `local` that are here.
    pub(super) fn durable(&self, standing: &Standing, name: FileName, local: u64) -> u64 {
        let known = self.lock();
        standing.durable(local, |node| known.has(node, name).map_or(0, |has| has.durable))
    }

    /// Whether a majority has the file sealed with this digest.
    pub(super) fn is_sealed(&self, standing: &Standing, name: FileName, digest: Digest) -> bool {
        let known = self.lock();
        standing.agrees(|node| known.has(node, name).is_some_and(|has| has.sealed == Some(digest)))
    }

    /// Whether a majority has the archive, and will not take it for unwanted soon.
    pub(super) fn is_kept(
        &self,
        standing: &Standing,
        name: FileName,
        digest: Digest,
        now: Timestamp,
    ) -> bool {
        let known = self.lock();
        let is_kept =
            |has: &Has| has.sealed == Some(digest) && is_fresh(from_millis(has.modified), now);
        standing.agrees(|node| known.has(node, name).is_some_and(is_kept))
    }
}

impl Known {
    fn has(&self, node: NodeId, name: FileName) -> Option<&Has> {
        self.nodes.get(&node)?.files.get(&name)
    }
}

fn wake(waiting: &mut BTreeMap<FileName, watch::Sender<()>>, name: FileName) {
    if let Some(sender) = waiting.get(&name) {
        if sender.receiver_count() == 0 {
            waiting.remove(&name);
        } else {
            sender.send_replace(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> FileName {
        FileName::Upload { digest: blake3::hash(b"x").into() }
    }

    fn has(length: u64) -> Option<Has> {
        Some(Has { length, durable: length, ..Has::default() })
    }

    fn standing() -> Standing {
        let voters = vec![NodeId(1), NodeId(2), NodeId(3)];
        Standing { this: NodeId(1), leader: NodeId(1), leading: true, voters }
    }

    #[test]
    fn what_a_node_told_counts_until_it_is_gone_and_then_what_it_tells_anew() {
        let view = View::default();
        view.begin(NodeId(2));
        view.tell(NodeId(2), vec![(name(), has(10))]);
        assert_eq!(view.durable(&standing(), name(), 20), 10);
        view.gone(NodeId(2));
        assert_eq!(view.durable(&standing(), name(), 20), 0);
        view.begin(NodeId(2));
        view.tell(NodeId(2), vec![(name(), has(4))]);
        assert_eq!(view.durable(&standing(), name(), 20), 4, "its disk was lost");
        view.tell(NodeId(2), vec![(name(), None)]);
        assert_eq!(view.most(name()), (0, false));
    }

    #[test]
    fn nobody_is_waited_for_who_cannot_be_reached() {
        let view = View::default();
        assert!(view.is_settled());
        view.begin(NodeId(2));
        view.begin(NodeId(3));
        view.listed(NodeId(2));
        assert!(!view.is_settled());
        view.gone(NodeId(3));
        assert!(view.is_settled());
    }

    #[test]
    fn what_there_is_is_known_when_all_voters_have_told_that_can_be_reached() {
        let view = View::default();
        let is_complete = || view.listers(&standing()).is_complete;
        view.begin(NodeId(2));
        view.listed(NodeId(2));
        assert!(!is_complete(), "nobody has looked for node 3");
        view.begin(NodeId(3));
        assert!(!is_complete());
        view.gone(NodeId(3));
        assert!(is_complete());
        view.reach();
        assert!(is_complete() && !view.is_settled(), "it is only tried again");
        view.begin(NodeId(3));
        assert!(!is_complete(), "it is back");
        view.listed(NodeId(3));
        assert_eq!(view.listers(&standing()).told, BTreeSet::from([NodeId(2), NodeId(3)]));
        let learns = Standing { this: NodeId(4), ..standing() };
        assert!(!view.listers(&learns).is_complete, "it may not know all others yet");
    }

    #[test]
    fn who_waits_for_a_file_is_woken_for_that_one() {
        let view = View::default();
        let other = FileName::Upload { digest: blake3::hash(b"y").into() };
        let (mut waiting, mut others) = (view.subscribe(name()), view.subscribe(other));
        waiting.mark_unchanged();
        others.mark_unchanged();
        view.tell(NodeId(2), vec![(name(), has(1))]);
        assert!(waiting.has_changed().unwrap());
        assert!(!others.has_changed().unwrap());
    }
}
