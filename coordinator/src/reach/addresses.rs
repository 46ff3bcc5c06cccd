//! Keeps calling the other members at the addresses that callers are told, so that it is
//! known of each whether it could lead before it does.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use baton_state::NodeId;
use futures::future::join_all;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Probe, Reach, Way, probe::Miss};
use crate::{peers::Directory, raft::RaftHandle};

/// The time between two calls of a member.
const CALL_EVERY: Duration = Duration::from_secs(2);
/// So many calls in a row must fail: one alone may have met a moment.
const FAILURES: u32 = 2;

/// Notes for each other member whether its address leads to it, until `stop`.
pub(crate) async fn watch_addresses(
    raft: RaftHandle,
    directory: Arc<Directory>,
    probe: Probe,
    reach: Reach,
    stop: CancellationToken,
) {
    stop.run_until_cancelled(async {
        let mut times = interval(CALL_EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut judge = Judge::default();
        loop {
            times.tick().await;
            let this = directory.this();
            let others: Vec<_> = {
                let state = raft.state();
                let others = state.members().iter().filter(|(node, _)| **node != this);
                others.map(|(node, member)| (*node, member.address.clone())).collect()
            };
            let trials = others.into_iter().map(async |(node, address)| {
                let outcome = outcome(&directory, &probe, node, &address).await;
                (node, Trial { address, outcome })
            });
            let ways = judge.judge(join_all(trials).await);
            tell(&reach.now().ways, &ways);
            reach.note(|reached| reached.ways = ways);
        }
    })
    .await;
}

/// What came of one call.
struct Trial {
    address: String,
    outcome: Outcome,
}

enum Outcome {
    Reached,
    /// It runs, as its peer port shows, and is not at its address.
    Missed(String),
    /// It runs nowhere that this node could see, or does not answer in time: that says
    /// nothing about the address.
    Away,
}

async fn outcome(directory: &Directory, probe: &Probe, node: NodeId, address: &str) -> Outcome {
    match probe.call(node, address).await {
        Ok(()) => Outcome::Reached,
        Err(Miss::Elsewhere(problem)) if directory.status_of(node).await.is_ok() => {
            Outcome::Missed(problem)
        }
        // It may have more to do than it can.
        Err(Miss::Elsewhere(_) | Miss::Silent) => Outcome::Away,
    }
}

/// Makes of single calls what counts.
#[derive(Default)]
struct Judge {
    known: BTreeMap<NodeId, Known>,
}

struct Known {
    address: String,
    failures: u32,
    way: Option<Way>,
}

impl Judge {
    fn judge(&mut self, trials: Vec<(NodeId, Trial)>) -> BTreeMap<NodeId, Way> {
        let mut before = std::mem::take(&mut self.known);
        for (node, Trial { address, outcome }) in trials {
            // Of another address nothing counts.
            let known = before.remove(&node).filter(|known| known.address == address);
            let (failures, way) = known.map_or((0, None), |known| (known.failures, known.way));
            let judged = |problem| Some(Way { address: address.clone(), problem });
            let (failures, way) = match outcome {
                Outcome::Reached => (0, judged(None)),
                Outcome::Missed(problem) if failures + 1 >= FAILURES => {
                    (failures + 1, judged(Some(problem)))
                }
                Outcome::Missed(_) => (failures + 1, way),
                Outcome::Away => (0, None),
            };
            self.known.insert(node, Known { address, failures, way });
        }
        let ways = self.known.iter().filter_map(|(node, known)| Some((*node, known.way.clone()?)));
        ways.collect()
    }
}

/// Logs what is new.
fn tell(before: &BTreeMap<NodeId, Way>, now: &BTreeMap<NodeId, Way>) {
    for (member, Way { address, problem }) in now {
        let known = before.get(member).and_then(|way| way.problem.as_ref());
        match (known, problem) {
            (None, Some(problem)) => warn!(
                %member, address, problem,
                "a member's address does not lead to it; correct its `address`, or let callers \
                 through to it"
            ),
            (Some(_), None) => info!(%member, address, "a member's address leads to it again"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn missed() -> Outcome {
        Outcome::Missed("connection refused".to_owned())
    }

    /// What counts after these calls of member 2.
    fn judged(trials: impl IntoIterator<Item = (&'static str, Outcome)>) -> Option<Way> {
        let mut judge = Judge::default();
        let trials = trials.into_iter().map(|(address, outcome)| {
            let trial = Trial { address: address.to_owned(), outcome };
            judge.judge(vec![(NodeId(2), trial)]).remove(&NodeId(2))
        });
        trials.last().unwrap()
    }

    fn way(address: &str, problem: Option<&str>) -> Option<Way> {
        Some(Way { address: address.to_owned(), problem: problem.map(str::to_owned) })
    }

    #[test]
    fn an_address_is_wrong_when_a_member_that_runs_is_missed_there_twice() {
        let wrong = way("h:1", Some("connection refused"));
        assert_eq!(judged([("h:1", missed())]), None);
        assert_eq!(judged([("h:1", missed()), ("h:1", missed())]), wrong);
        let reached = way("h:1", None);
        assert_eq!(judged([("h:1", Outcome::Reached), ("h:1", missed())]), reached, "a moment");
        let again = [("h:1", missed()), ("h:1", missed()), ("h:1", Outcome::Reached)];
        assert_eq!(judged(again), reached);
    }

    #[test]
    fn nothing_is_said_of_the_address_of_a_member_that_is_away() {
        let away = [("h:1", missed()), ("h:1", missed()), ("h:1", Outcome::Away)];
        assert_eq!(judged(away), None);
        let back = [("h:1", missed()), ("h:1", Outcome::Away), ("h:1", missed())];
        assert_eq!(judged(back), None);
    }

    #[test]
    fn what_was_said_of_an_address_does_not_hold_for_the_next() {
        assert_eq!(judged([("h:1", Outcome::Reached), ("h:2", missed())]), None);
        assert_eq!(judged([("h:1", missed()), ("h:2", Outcome::Reached)]), way("h:2", None));
    }
}
