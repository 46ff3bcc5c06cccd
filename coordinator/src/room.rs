//! A leader that cannot take work refuses it, however well the others could: when its disk
//! is nearly full, or its history cannot be written. It lets one of them lead. Only the
//! leader does this, and only when somebody can take what it cannot.

use std::{sync::Arc, time::Duration};

use baton_proto::peer::{self, StatusResponse};
use baton_state::{Index, NodeId};
use futures::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{
    disk::DiskGuard,
    history::History,
    members::{self, Members},
    peers::Directory,
    raft::Progress,
};

/// How often the leader looks at its disk and its history.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a member may take to say how it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);
/// How long the history must have failed: a moment is waited for, and what holds up all
/// histories at once shows at the others too by then. Longer than a write waits for a lock.
const FAILING_FOR: Duration = Duration::from_secs(6);
/// The wait after another one did not come to lead.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Hands over while this node leads and cannot take work, until `stop`.
pub(crate) async fn hand_over(
    members: Members,
    directory: Arc<Directory>,
    disk: DiskGuard,
    history: History,
    stop: CancellationToken,
) {
    stop.run_until_cancelled(async {
        let mut times = interval(LOOK_EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing_since = None;
        loop {
            times.tick().await;
            failing_since = history.health().map(|_| failing_since.unwrap_or_else(Instant::now));
            let status = members.raft.status().borrow().clone();
            if !status.leading {
                continue;
            }
            let failing = failing_since.map(|since| since.elapsed());
            let Some(reason) = obstacle(disk.check().is_ok(), failing) else { continue };
            let Ok(progress) = members.raft.progress().await else { return };
            let others = ready(&progress, NodeId(status.node_id), status.committed);
            let others = others.map(async |node| Some((node, status_of(&directory, node).await?)));
            let others = join_all(others).await.into_iter().flatten();
            let Some(next) = fittest(others, disk.min_free()) else { continue };
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

/// What keeps a leader from taking work that another could take.
fn obstacle(has_room: bool, history_failing: Option<Duration>) -> Option<&'static str> {
    if !has_room {
        return Some("the disk is nearly full");
    }
    let failing = history_failing.is_some_and(|failing| failing >= FAILING_FOR);
    failing.then_some("the history cannot be written")
}

async fn status_of(directory: &Directory, node: NodeId) -> Option<StatusResponse> {
    let request = peer::StatusRequest { hello: Some(directory.hello(node)) };
    let mut client = directory.peer(node)?.control();
    let answer = timeout(ANSWER_WITHIN, client.status(request)).await;
    Some(answer.ok()?.ok()?.into_inner())
}

/// Who has the most bytes free, of those with as many as a leader needs and no problem:
/// another would refuse work as well, and hand over in its turn.
fn fittest(others: impl Iterator<Item = (NodeId, StatusResponse)>, needed: u64) -> Option<NodeId> {
    let fit = others.filter(|(_, status)| status.disk_free >= needed && status.problem.is_empty());
    fit.max_by_key(|(_, status)| status.disk_free).map(|(node, _)| node)
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
        let fittest = |count, needed| fittest(others.iter().take(count).cloned(), needed);
        assert_eq!(fittest(3, 100), Some(NodeId(4)));
        assert_eq!(fittest(2, 100), Some(NodeId(3)));
        assert_eq!(fittest(1, 100), None, "it would refuse work as well");
        assert_eq!(fittest(0, 0), None);
    }

    #[test]
    fn nobody_leads_whose_own_history_cannot_be_written() {
        let locked = "the history cannot be read or written: database is locked";
        let others = [other(2, 100, ""), other(3, 200, locked)];
        assert_eq!(fittest(others.into_iter(), 100), Some(NodeId(2)));
        assert_eq!(fittest([other(3, 200, locked)].into_iter(), 100), None);
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
        assert_eq!(obstacle(true, None), None);
        assert_eq!(obstacle(true, moment), None);
        assert_eq!(obstacle(true, Some(FAILING_FOR)), Some("the history cannot be written"));
        assert_eq!(obstacle(false, None), Some("the disk is nearly full"), "at once");
    }
}
