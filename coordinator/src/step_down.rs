//! A leader that should not lead lets another one: when its disk is nearly full or its
//! history cannot be written, so that it refuses work however well the others could take it;
//! when its history is damaged, so that what it says of finished jobs is not whole; and when nobody else reaches it where callers are sent. Only the leader does this, and
//! only when somebody is there who can do better.

use std::{sync::Arc, time::Duration};

use baton_proto::peer::StatusResponse;
use baton_state::{Index, NodeId};
use futures::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    disk::DiskGuard,
    history::History,
    members::{self, Members},
    peers::Directory,
    raft::Progress,
    reach::{Reach, Tally},
};

/// How often the leader looks at its disk, its history and the way to it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long the history must have failed: a moment is waited for, and what holds up all
/// histories at once shows at the others too by then. Longer than a write waits for a lock.
const FAILING_FOR: Duration = Duration::from_secs(6);
/// How long all others must have said that its address does not lead to it. They try more
/// than once before they do.
const MISSED_FOR: Duration = Duration::from_secs(3);
/// The wait after another one did not come to lead.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// What is looked at.
pub(crate) struct Watched {
    pub(crate) members: Members,
    pub(crate) directory: Arc<Directory>,
    pub(crate) reach: Reach,
    pub(crate) disk: DiskGuard,
    pub(crate) history: History,
}

/// Hands over while this node leads and should not, until `stop`.
pub(crate) async fn hand_over(watched: Watched, stop: CancellationToken) {
    stop.run_until_cancelled(async {
        let Watched { members, history, disk, .. } = &watched;
        let mut times = interval(LOOK_EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut failing_since, mut missed_since) = (None, None);
        loop {
            times.tick().await;
            failing_since = history.health().map(|_| failing_since.unwrap_or_else(Instant::now));
            let status = members.raft.status().borrow().clone();
            if !status.leading {
                missed_since = None;
                continue;
            }
            let this = NodeId(status.node_id);
            let Ok(progress) = members.raft.progress().await else { return };
            let others = watched.ask(&progress, this).await;
            let missed = is_missed(&watched.tally(this, &others), others.len());
            missed_since = missed.then(|| missed_since.unwrap_or_else(Instant::now));
            let [failing, missed] =
                [failing_since, missed_since].map(|since| since.map(|since| since.elapsed()));
            let damaged = history.damage().is_some();
            let Some(reason) = obstacle(disk.check().is_ok(), failing, damaged, missed) else {
                continue;
            };
            let ready: Vec<_> = ready(&progress, this, status.committed).collect();
            // Another that nobody reaches would hand over in its turn.
            let fit = others
                .iter()
                .filter(|(node, _)| ready.contains(node) && watched.is_reached(*node, &others));
            let Some(next) = fittest(fit, disk.min_free()) else { continue };
            match members.transfer(Some(next)).await {
                Ok(next) => info!(%next, "{reason}: another coordinator leads"),
                Err(error) => {
                    warn!(%next, %error, "{reason}, and this node still leads");
                    // While it tries, it decides nothing else.
                    sleep(AGAIN_AFTER).await;
                }
            }
        }
    })
    .await;
}

/// A voter that answers, and how it is.
type Voter = (NodeId, StatusResponse);

impl Watched {
    /// How the other voters are that answer.
    async fn ask(&self, progress: &[Progress], this: NodeId) -> Vec<Voter> {
        let others = progress.iter().filter(|it| it.node != this && it.voter && it.active);
        let answers = others.map(async |other| {
            Some((other.node, self.directory.status_of(other.node).await.ok()?))
        });
        join_all(answers).await.into_iter().flatten().collect()
    }

    /// What the others say of the way to a member, and this node if it is another one.
    fn tally(&self, node: NodeId, others: &[Voter]) -> Tally {
        let address = {
            let state = self.members.raft.state();
            state.members().get(&node).map(|member| member.address.clone())
        };
        let own =
            StatusResponse { ways: self.reach.now().ways_to_proto(), ..StatusResponse::default() };
        let said = others.iter().map(|(from, status)| (*from, status));
        let said = said.chain([(self.directory.this(), &own)]);
        Tally::of(node, &address.unwrap_or_default(), said)
    }

    fn is_reached(&self, node: NodeId, others: &[Voter]) -> bool {
        !self.tally(node, others).reached_by.is_empty()
    }
}

/// Whether all others say that they miss this node at its address: one that does not say
/// may be of a version that does not look.
fn is_missed(tally: &Tally, others: usize) -> bool {
    others > 0 && tally.missed_by.len() == others
}

/// The other voters that answer and lack nothing that would have to be sent first: while
/// that goes on, nothing else is decided.
fn ready(progress: &[Progress], this: NodeId, committed: Index) -> impl Iterator<Item = NodeId> {
    let ready = progress.iter().filter(move |other| {
        other.node != this
            && other.voter
            && other.active
            && other.matched + members::BEHIND >= committed
    });
    ready.map(|other| other.node)
}

/// What makes a leader one that should not lead.
fn obstacle(
    has_room: bool,
    history_failing: Option<Duration>,
    history_damaged: bool,
    missed: Option<Duration>,
) -> Option<&'static str> {
    if !has_room {
        return Some("the disk is nearly full");
    }
    if history_failing.is_some_and(|failing| failing >= FAILING_FOR) {
        return Some("the history cannot be written");
    }
    if history_damaged {
        return Some("the history is damaged");
    }
    let missed = missed.is_some_and(|missed| missed >= MISSED_FOR);
    missed.then_some("no other coordinator reaches this one at its address")
}

/// Who has the most bytes free, of those with as many as a leader needs and no problem:
/// another would refuse work as well, and hand over in its turn.
fn fittest<'a>(others: impl Iterator<Item = &'a Voter>, needed: u64) -> Option<NodeId> {
    let fit = others.filter(|(_, status)| status.disk_free >= needed && status.problem.is_empty());
    fit.max_by_key(|(_, status)| status.disk_free).map(|(node, _)| *node)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(node: u64, disk_free: u64, problem: &str) -> (NodeId, StatusResponse) {
        let problem = problem.to_owned();
        (NodeId(node), StatusResponse { disk_free, problem, ..StatusResponse::default() })
    }

    #[test]
    fn whoever_has_the_most_room_leads_if_it_is_enough() {
        let others = [other(2, 99, ""), other(3, 100, ""), other(4, 200, "")];
        let fittest = |count, needed| fittest(others.iter().take(count), needed);
        assert_eq!(fittest(3, 100), Some(NodeId(4)));
        assert_eq!(fittest(2, 100), Some(NodeId(3)));
        assert_eq!(fittest(1, 100), None, "it would refuse work as well");
        assert_eq!(fittest(0, 0), None);
    }

    #[test]
    fn nobody_leads_whose_own_history_cannot_be_written() {
        let locked = "the history cannot be read or written: database is locked";
        let others = [other(2, 100, ""), other(3, 200, locked)];
        assert_eq!(fittest(others.iter(), 100), Some(NodeId(2)));
        assert_eq!(fittest([other(3, 200, locked)].iter(), 100), None);
    }

    #[test]
    fn nobody_leads_who_has_to_be_brought_up_first() {
        let other =
            |node, voter, active, matched| Progress { node: NodeId(node), voter, matched, active };
        let progress = [
            other(1, true, true, 1_000),
            other(2, true, true, 1_000 - members::BEHIND),
            other(3, true, true, 900),
            other(4, true, false, 1_000),
            other(5, false, true, 1_000),
        ];
        let ready: Vec<_> = ready(&progress, NodeId(1), 1_000).collect();
        assert_eq!(ready, [NodeId(2)]);
    }

    #[test]
    fn a_history_that_fails_for_a_moment_is_waited_for() {
        let moment = FAILING_FOR.checked_sub(Duration::from_millis(1));
        assert_eq!(obstacle(true, None, false, None), None);
        assert_eq!(obstacle(true, moment, false, None), None);
        let told = obstacle(true, Some(FAILING_FOR), false, None);
        assert_eq!(told, Some("the history cannot be written"));
        assert_eq!(obstacle(false, None, false, None), Some("the disk is nearly full"), "at once");
        assert_eq!(obstacle(true, None, true, None), Some("the history is damaged"), "at once");
    }

    #[test]
    fn a_leader_steps_down_when_all_others_have_missed_it_at_its_address_for_some_time() {
        let missed = |count: u64| Tally {
            missed_by: (2..2 + count).map(|node| (NodeId(node), "refused".to_owned())).collect(),
            ..Tally::default()
        };
        assert!(is_missed(&missed(2), 2));
        assert!(!is_missed(&missed(1), 2), "one of them says nothing, or reaches it");
        assert!(!is_missed(&missed(0), 0), "nobody is there to say so");
        let moment = MISSED_FOR.checked_sub(Duration::from_millis(1));
        assert_eq!(obstacle(true, None, false, moment), None);
        assert!(obstacle(true, None, false, Some(MISSED_FOR)).unwrap().contains("at its address"));
    }
}
