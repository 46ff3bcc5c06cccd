//! Which of the others this node reaches, and how: whether their API addresses lead to
//! them, and whether a majority can be reached at all. Found out beside Raft, which knows
//! neither; what follows from it is decided elsewhere (`step_down.rs`, `grpc/forward.rs`).

mod addresses;
mod majority;
mod probe;
mod tally;

use std::collections::BTreeMap;

use baton_proto::{
    error::{ApiError, Reason},
    peer,
};
use baton_state::NodeId;
use tokio::sync::watch;

pub(crate) use self::{
    addresses::watch_addresses, majority::watch_majority, probe::Probe, tally::Tally,
};
use crate::leadership::Leader;

/// What this node reaches, as it is found out. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reach(watch::Sender<Reached>);

/// What this node has found out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// What came of calling the others; of those that could be judged.
    pub(crate) ways: BTreeMap<NodeId, Way>,
    /// This node has been without a leader and a majority for some time.
    pub(crate) cut_off: Option<CutOff>,
}

/// Whether an address leads to its member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Way {
    pub(crate) address: String,
    /// Why it does not.
    pub(crate) problem: Option<String>,
}

/// So many of the others that vote are reached: too few to decide anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this coordinator is cut off: it reaches {reached} of the {others} other coordinators that vote"
)]
pub(crate) struct CutOff {
    pub(crate) reached: usize,
    pub(crate) others: usize,
}

impl Reach {
    /// What is known by now.
    pub(crate) fn now(&self) -> Reached {
        self.0.borrow().clone()
    }

    /// What is known, as it changes.
    pub(crate) fn follow(&self) -> watch::Receiver<Reached> {
        self.0.subscribe()
    }

    /// Notes what was found out; tells those who follow if it is new.
    pub(crate) fn note(&self, change: impl FnOnce(&mut Reached)) {
        self.0.send_if_modified(|reached| {
            let before = reached.clone();
            change(reached);
            *reached != before
        });
    }
}

impl Reached {
    /// Why calls for the leader cannot be sent on, however long they wait.
    pub(crate) fn obstacle(&self, leader: &Leader) -> Option<ApiError> {
        match leader {
            Leader::Here { .. } | Leader::HereSoon => None,
            Leader::At(address) => {
                let mut ways = self.ways.values().filter(|way| way.address == *address).peekable();
                let problem = ways.peek()?.problem.clone()?;
                ways.all(|way| way.problem.is_some()).then(|| wrong_address(address, &problem))
            }
            Leader::Nobody => self.cut_off.map(cut_off),
        }
    }

    /// As the others are told.
    pub(crate) fn ways_to_proto(&self) -> Vec<peer::Way> {
        let ways = self.ways.iter().map(|(node, way)| peer::Way {
            node_id: node.0,
            address: way.address.clone(),
            problem: way.problem.clone().unwrap_or_default(),
        });
        ways.collect()
    }
}

fn wrong_address(address: &str, problem: &str) -> ApiError {
    ApiError::new(
        Reason::NoLeader,
        format!("this coordinator does not reach the leader at {address}: {problem}"),
        "send the request again, with the same idempotency key, or to another coordinator; \
         `baton cluster status` shows whose address is wrong",
    )
}

fn cut_off(cut_off: CutOff) -> ApiError {
    ApiError::new(
        Reason::NoLeader,
        cut_off.to_string(),
        "send the request to another coordinator, with the same idempotency key; see in `baton \
         cluster status` which of them run and reach each other",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(address: &str, problem: Option<&str>) -> Way {
        Way { address: address.to_owned(), problem: problem.map(str::to_owned) }
    }

    #[test]
    fn calls_are_not_sent_where_no_leader_is() {
        let at = |address: &str| Leader::At(address.to_owned());
        let ways = [
            (NodeId(1), way("one:1", None)),
            (NodeId(2), way("two:1", Some("connection refused"))),
            (NodeId(3), way("one:1", Some("another coordinator (node 1) answers there"))),
        ];
        let reached = Reached { ways: ways.into(), cut_off: None };
        assert_eq!(reached.obstacle(&at("one:1")), None, "it is somebody's");
        assert_eq!(reached.obstacle(&at("four:1")), None, "nothing is known of it");
        let refused = reached.obstacle(&at("two:1")).unwrap();
        assert_eq!(refused.reason, Reason::NoLeader);
        assert!(refused.message.ends_with("at two:1: connection refused"), "{refused}");
        assert_eq!(reached.obstacle(&Leader::Nobody), None, "an election may go on");
    }

    #[test]
    fn who_is_cut_off_expects_no_leader() {
        let cut_off = Some(CutOff { reached: 1, others: 4 });
        let reached = Reached { ways: BTreeMap::new(), cut_off };
        let refused = reached.obstacle(&Leader::Nobody).unwrap();
        assert_eq!(refused.reason, Reason::NoLeader);
        assert!(refused.message.contains("reaches 1 of the 4 other"), "{refused}");
        assert_eq!(reached.obstacle(&Leader::HereSoon), None);
        assert_eq!(reached.obstacle(&Leader::At("h:1".to_owned())), None, "there is one again");
    }

    #[test]
    fn only_what_is_new_is_told() {
        let reach = Reach::default();
        let mut told = reach.follow();
        reach.note(|reached| reached.cut_off = None);
        assert!(!told.has_changed().unwrap());
        reach.note(|reached| reached.cut_off = Some(CutOff { reached: 0, others: 2 }));
        assert!(told.has_changed().unwrap());
        assert!(told.borrow_and_update().cut_off.is_some());
    }
}
