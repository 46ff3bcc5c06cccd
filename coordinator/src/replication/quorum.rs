//! What a majority of the voters has of a file. Pure.
//!
//! This node counts as one of them if it votes, and nothing counts that it does not
//! have itself: it is what goes on to write.

use baton_state::NodeId;

use crate::{files::Digest, raft};

/// This node's place in the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    /// This node.
    pub(crate) this: NodeId,
    /// The leader, or 0.
    pub(crate) leader: NodeId,
    /// This node leads.
    pub(crate) leading: bool,
    /// Who votes.
    pub(crate) voters: Vec<NodeId>,
}

impl Standing {
    pub(super) fn of(status: &raft::Status) -> Self {
        Self {
            this: NodeId(status.node_id),
            leader: NodeId(status.leader_id),
            leading: status.leading,
            voters: status.voters.iter().copied().map(NodeId).collect(),
        }
    }

    /// How many others it takes besides this node. None where nobody is known to
    /// vote: then nothing is agreed.
    fn others_needed(&self) -> Option<usize> {
        let majority = (!self.voters.is_empty()).then(|| self.voters.len() / 2 + 1)?;
        Some(majority - usize::from(self.voters.contains(&self.this)))
    }

    fn other_voters(&self) -> impl Iterator<Item = NodeId> {
        self.voters.iter().copied().filter(|node| *node != self.this)
    }

    /// Bytes that a majority has on disk, of `local` that this node has. `told` is
    /// what another node has.
    pub(super) fn durable(&self, local: u64, told: impl Fn(NodeId) -> u64) -> u64 {
        let Some(needed) = self.others_needed() else { return 0 };
        if needed == 0 {
            return local;
        }
        let mut lengths: Vec<u64> = self.other_voters().map(told).collect();
        lengths.sort_unstable_by_key(|length| std::cmp::Reverse(*length));
        lengths.get(needed - 1).map_or(0, |length| local.min(*length))
    }

    /// Whether with this node a majority has what `has` looks for.
    pub(super) fn agrees(&self, has: impl Fn(NodeId) -> bool) -> bool {
        let having = self.other_voters().filter(|node| has(*node)).count();
        self.others_needed().is_some_and(|needed| having >= needed)
    }
}

/// What another node has told of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Has {
    /// Bytes that can be read there.
    pub(super) length: u64,
    /// Bytes on its disk.
    pub(super) durable: u64,
    /// The digest, if it is sealed.
    pub(super) sealed: Option<Digest>,
    /// Milliseconds since the epoch of the last change.
    pub(super) modified: u64,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn standing(this: u64, voters: &[u64]) -> Standing {
        let voters = voters.iter().copied().map(NodeId).collect();
        Standing { this: NodeId(this), leader: NodeId(this), leading: true, voters }
    }

    fn durable(this: u64, voters: &[u64], local: u64, told: &[(u64, u64)]) -> u64 {
        let told: BTreeMap<u64, u64> = told.iter().copied().collect();
        standing(this, voters).durable(local, |node| told.get(&node.0).copied().unwrap_or(0))
    }

    #[test]
    fn a_node_alone_is_its_own_majority() {
        assert_eq!(durable(1, &[1], 10, &[]), 10);
        assert_eq!(durable(1, &[1], 10, &[(2, 3)]), 10, "a learner is not waited for");
    }

    #[test]
    fn of_two_both_must_have_it() {
        assert_eq!(durable(1, &[1, 2], 10, &[]), 0);
        assert_eq!(durable(1, &[1, 2], 10, &[(2, 7)]), 7);
        assert_eq!(durable(1, &[1, 2], 10, &[(2, 12)]), 10, "no more than is here");
    }

    #[test]
    fn of_three_and_five_the_slowest_are_not_waited_for() {
        assert_eq!(durable(1, &[1, 2, 3], 10, &[(2, 4), (3, 8)]), 8);
        assert_eq!(durable(1, &[1, 2, 3], 10, &[(3, 8)]), 8);
        let told = [(2, 9), (3, 1), (4, 6), (5, 0)];
        assert_eq!(durable(1, &[1, 2, 3, 4, 5], 10, &told), 6);
    }

    #[test]
    fn learners_and_removed_members_do_not_count() {
        assert_eq!(durable(1, &[1, 2, 3], 10, &[(4, 10), (5, 10)]), 0);
        assert_eq!(durable(1, &[1, 2], 10, &[(3, 10)]), 0);
    }

    #[test]
    fn a_node_that_does_not_vote_needs_a_majority_of_others() {
        assert_eq!(durable(4, &[1, 2, 3], 10, &[(1, 9)]), 0);
        assert_eq!(durable(4, &[1, 2, 3], 10, &[(1, 9), (2, 5)]), 5);
        assert_eq!(durable(2, &[1], 10, &[]), 0);
        assert_eq!(durable(2, &[1], 10, &[(1, 4)]), 4);
    }

    #[test]
    fn where_nobody_is_known_to_vote_nothing_is_agreed() {
        assert_eq!(durable(1, &[], 10, &[(2, 10)]), 0);
        assert!(!standing(1, &[]).agrees(|_| true));
    }

    #[test]
    fn who_tells_less_than_before_counts_with_that() {
        let voters = [1, 2, 3];
        assert_eq!(durable(1, &voters, 10, &[(2, 10), (3, 2)]), 10);
        assert_eq!(durable(1, &voters, 10, &[(2, 0), (3, 2)]), 2);
    }

    #[test]
    fn each_further_voter_can_only_hold_the_same_back_or_bring_it() {
        for voters in 1..=5_u64 {
            let all: Vec<u64> = (1..=voters).collect();
            for having in 0..voters {
                let told: Vec<(u64, u64)> = (2..2 + having).map(|node| (node, 10)).collect();
                let expected = if having + 1 > voters / 2 { 10 } else { 0 };
                assert_eq!(durable(1, &all, 10, &told), expected, "{having} of {voters}");
                let has = |node: NodeId| (2..2 + having).contains(&node.0);
                assert_eq!(standing(1, &all).agrees(has), expected == 10);
            }
        }
    }
}
