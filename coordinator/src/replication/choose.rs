//! What to fetch, and from whom. Pure.

use std::collections::BTreeSet;

use baton_state::NodeId;

use super::quorum::Has;
use crate::files::{FileName, Held};

/// Whom to fetch from, and what there is; `None` when nobody besides those in
/// `failed` has anything that is missing here. What is sealed comes first, since it
/// is all there will be; then what the leader has, since it is what grows; then the
/// most.
pub(super) fn choose(
    name: FileName,
    held: Option<&Held>,
    having: &[(NodeId, Has)],
    leader: NodeId,
    failed: &BTreeSet<NodeId>,
) -> Option<(NodeId, Has)> {
    if held.is_some_and(|held| held.sealed.is_some()) {
        return None;
    }
    let lacking =
        having.iter().filter(|(node, has)| !failed.contains(node) && lacks(name, held, has));
    lacking.max_by_key(|(node, has)| (has.sealed.is_some(), *node == leader, has.length)).copied()
}

fn lacks(name: FileName, held: Option<&Held>, has: &Has) -> bool {
    if has.sealed.is_some() {
        return true;
    }
    // Who counts on it must learn how much of it is on disk here: opening it shows.
    let unknown = held.is_some_and(|held| held.durable.is_none());
    let more = has.length > held.map_or(0, |held| held.length);
    matches!(name, FileName::Log { .. }) && (more || (unknown && has.length > 0))
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use baton_state::{JobId, Lease, Timestamp};

    use super::*;
    use crate::files::Digest;

    const LEADER: NodeId = NodeId(2);

    fn log() -> FileName {
        FileName::Log { job: JobId::new(Timestamp(1), 1), lease: Lease(1) }
    }

    fn digest() -> Digest {
        blake3::hash(b"").into()
    }

    fn here(length: u64) -> Held {
        let modified = SystemTime::UNIX_EPOCH;
        Held { length, durable: Some(length), sealed: None, modified }
    }

    fn growing(node: u64, length: u64) -> (NodeId, Has) {
        (NodeId(node), Has { length, durable: length, ..Has::default() })
    }

    fn sealed(node: u64, length: u64) -> (NodeId, Has) {
        (NodeId(node), Has { length, durable: length, sealed: Some(digest()), modified: 0 })
    }

    fn from(held: Option<Held>, having: &[(NodeId, Has)]) -> Option<u64> {
        let none = BTreeSet::new();
        choose(log(), held.as_ref(), having, LEADER, &none).map(|(node, _)| node.0)
    }

    #[test]
    fn nothing_is_fetched_that_is_here() {
        assert_eq!(from(Some(here(10)), &[growing(2, 10), growing(3, 4)]), None);
        assert_eq!(from(None, &[]), None);
        let whole = Held { sealed: Some(digest()), ..here(10) };
        assert_eq!(from(Some(whole), &[sealed(2, 10), growing(3, 12)]), None);
    }

    #[test]
    fn the_leader_is_asked_first_then_who_has_most() {
        assert_eq!(from(Some(here(1)), &[growing(2, 5), growing(3, 9)]), Some(2));
        assert_eq!(from(Some(here(5)), &[growing(2, 5), growing(3, 9), growing(4, 7)]), Some(3));
        assert_eq!(from(None, &[growing(3, 9), growing(4, 17)]), Some(4));
    }

    #[test]
    fn what_is_sealed_is_fetched_from_who_has_it_so() {
        assert_eq!(from(Some(here(10)), &[growing(2, 12), sealed(3, 20)]), Some(3));
        assert_eq!(from(Some(here(20)), &[sealed(3, 20)]), Some(3), "the seal itself is missing");
        assert_eq!(from(None, &[sealed(3, 20), sealed(2, 20)]), Some(2));
        assert_eq!(from(None, &[sealed(3, 0)]), Some(3), "it may be empty");
    }

    #[test]
    fn who_failed_is_not_asked_again() {
        let failed = BTreeSet::from([LEADER]);
        let having = [growing(2, 9), growing(3, 5)];
        let chosen = choose(log(), None, &having, LEADER, &failed);
        assert_eq!(chosen.map(|(node, _)| node.0), Some(3));
        assert_eq!(choose(log(), None, &having[..1], LEADER, &failed), None);
    }

    #[test]
    fn of_an_upload_only_what_is_known_to_be_right_is_fetched() {
        let (name, none) = (FileName::Upload { digest: digest() }, BTreeSet::new());
        assert_eq!(choose(name, None, &[growing(2, 9)], LEADER, &none), None);
        assert!(choose(name, None, &[sealed(2, 9)], LEADER, &none).is_some());
    }

    #[test]
    fn a_part_from_before_the_start_is_opened_when_others_have_it() {
        let unknown = Held { durable: None, ..here(10) };
        assert_eq!(from(Some(unknown), &[growing(3, 10)]), Some(3));
        assert_eq!(from(Some(unknown), &[]), None);
    }
}
