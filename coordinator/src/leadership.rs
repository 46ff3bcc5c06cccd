//! Who leads, as far as this node knows: what decides where a call is answered.
//! It may lag behind; what must not happen without being the leader is refused by
//! Raft itself.

use baton_state::{NodeId, State};
use tokio::sync::watch;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::raft::{RaftHandle, Status};

/// Who leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Leader {
    /// This node, in this term.
    Here { term: u64 },
    /// This node, as soon as it has applied what earlier leaders have decided.
    HereSoon,
    /// The coordinator that serves the API at this address.
    At(String),
    /// Nobody, or nobody knows.
    Nobody,
}

/// Follows who leads. Clones follow on their own.
#[derive(Clone)]
pub(crate) struct Leadership(watch::Receiver<Leader>);

impl Leadership {
    /// Follows what the Raft node says, until `stop`.
    pub(crate) fn follow(raft: RaftHandle, tasks: &TaskTracker, stop: CancellationToken) -> Self {
        let mut status = raft.status();
        let (sender, leader) = watch::channel(current(&status.borrow_and_update(), &raft));
        tasks.spawn(stop.run_until_cancelled_owned(async move {
            while status.changed().await.is_ok() {
                let now = current(&status.borrow_and_update(), &raft);
                sender.send_if_modified(|leader| {
                    let changed = *leader != now;
                    *leader = now;
                    changed
                });
            }
        }));
        Self(leader)
    }

    /// Follows what `leader` says.
    #[cfg(test)]
    pub(crate) fn told_by(leader: watch::Receiver<Leader>) -> Self {
        Self(leader)
    }

    /// As of now.
    pub(crate) fn leader(&mut self) -> Leader {
        self.0.borrow_and_update().clone()
    }

    /// Returns when it may be another one than [`Leadership::leader`] gave last; never
    /// when nobody follows any more.
    pub(crate) async fn changed(&mut self) {
        if self.0.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// This node serves here and now.
    pub(crate) fn is_here(&self) -> bool {
        matches!(*self.0.borrow(), Leader::Here { .. })
    }

    /// The term in which this node leads, as soon as it does.
    pub(crate) async fn here(&mut self) -> u64 {
        loop {
            if let Leader::Here { term } = self.leader() {
                return term;
            }
            self.changed().await;
        }
    }

    /// Returns when this node does not lead in `term`, or not any more.
    pub(crate) async fn over(&mut self, term: u64) {
        while self.leader() == (Leader::Here { term }) {
            self.changed().await;
        }
    }

    /// Returns when this node does not lead, or not in the same term any more.
    pub(crate) async fn lost(&mut self) {
        if let Leader::Here { term } = self.leader() {
            self.over(term).await;
        }
    }

    /// Returns when another coordinator leads than the one that serves at this address.
    pub(crate) async fn passed_on(&mut self, from: &str) {
        loop {
            match self.leader() {
                Leader::Nobody => {}
                Leader::At(address) if address == from => {}
                Leader::At(_) | Leader::Here { .. } | Leader::HereSoon => return,
            }
            self.changed().await;
        }
    }

    /// Where another coordinator leads, as soon as that is known.
    pub(crate) async fn elsewhere(&mut self) -> String {
        loop {
            if let Leader::At(address) = self.leader() {
                return address;
            }
            self.changed().await;
        }
    }
}

fn current(status: &Status, raft: &RaftHandle) -> Leader {
    // The common case needs no lock.
    if status.leading { Leader::Here { term: status.term } } else { leader(status, &raft.state()) }
}

fn leader(status: &Status, state: &State) -> Leader {
    if status.failure.is_some() || status.leader_id == 0 {
        return Leader::Nobody;
    }
    if status.leader_id == status.node_id {
        return Leader::HereSoon;
    }
    let member = state.members().get(&NodeId(status.leader_id));
    match member.map(|member| member.address.clone()) {
        Some(address) if !address.is_empty() => Leader::At(address),
        // It has joined by an entry that this node does not have yet.
        _ => Leader::Nobody,
    }
}

#[cfg(test)]
mod tests {
    use baton_state::{Command, Level, Member, Timestamp, command::FoundCluster};

    use super::*;

    fn state() -> State {
        let member = Member {
            instance: "i".to_owned(),
            address: "h:1".to_owned(),
            peer_address: "h:2".to_owned(),
            version: "1".to_owned(),
            level: Level::NEWEST,
        };
        let cluster_id = "c".to_owned();
        let found = FoundCluster { cluster_id, node: NodeId(1), member, at: Timestamp(1) };
        let mut state = State::default();
        state.apply(1, Command::FoundCluster(found)).0.unwrap();
        state
    }

    #[test]
    fn the_leader_is_where_the_state_has_it() {
        let status = |node_id, leader_id| Status { node_id, leader_id, ..Status::default() };
        let at = Leader::At("h:1".to_owned());
        assert_eq!(leader(&status(2, 1), &state()), at);
        assert_eq!(leader(&status(1, 1), &state()), Leader::HereSoon);
        assert_eq!(leader(&status(2, 0), &state()), Leader::Nobody);
        assert_eq!(leader(&status(2, 3), &state()), Leader::Nobody, "not known yet");
        let failed = Status { failure: Some("disk".to_owned()), ..status(2, 1) };
        assert_eq!(leader(&failed, &state()), Leader::Nobody);
    }
}
