//! The state of one cluster as the beginning of another: what a backup becomes.

use std::collections::BTreeMap;

use crate::{
    ids::{Index, NodeId},
    member::{Level, Member},
    state::State,
};

/// The cluster that a state is to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refounding {
    /// What it is called: never what the other one is.
    pub cluster_id: String,
    /// The number of its only member.
    pub node: NodeId,
    /// Its only member.
    pub member: Member,
    /// The entry after which its log begins. An entry's number is a lease's: none of
    /// what the other cluster granted later may be beyond this.
    pub index: Index,
}

/// Why a state cannot begin another cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefoundError {
    /// Its member does not know the commands that made the state.
    #[error(
        "commands of level {needed} are in use there, and this version of Baton knows those up \
         to {known}: install the version that the cluster had",
        needed = .needed.0,
        known = .known.0
    )]
    TooOld {
        /// What the member knows.
        known: Level,
        /// What is in use.
        needed: Level,
    },
    /// The log would begin with numbers that were used already.
    #[error("the new log cannot begin after entry {index}: entry {applied} is in the state")]
    IndexTaken {
        /// After which entry it was to begin.
        index: Index,
        /// The state's last one.
        applied: Index,
    },
}

impl State {
    /// Makes this the first state of another cluster, which has one member. Jobs,
    /// runners, leases and keys of requests stay as they are. What makes the tokens of jobs
    /// does not: a token of one cluster is worth nothing in the other.
    ///
    /// # Errors
    /// [`RefoundError`]; then nothing has changed.
    pub fn refound(&mut self, refounding: Refounding) -> Result<(), RefoundError> {
        let Refounding { cluster_id, node, member, index } = refounding;
        if member.level < self.level {
            return Err(RefoundError::TooOld { known: member.level, needed: self.level });
        }
        if index <= self.applied {
            return Err(RefoundError::IndexTaken { index, applied: self.applied });
        }
        self.skip(index);
        self.cluster_id = cluster_id;
        self.members = BTreeMap::from([(node, member)]);
        self.newest_node = node;
        self.job_token_key = None;
        self.raise_level();
        Ok(())
    }
}
