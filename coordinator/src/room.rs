//! A leader whose disk is nearly full refuses work, however much room the others have: it
//! lets one of them lead. Only the leader does this, and only when somebody has room.

use std::{sync::Arc, time::Duration};

use baton_proto::peer;
use baton_state::NodeId;
use futures::future::join_all;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::{disk::DiskGuard, members::Members, peers::Directory};

/// How often the leader looks at its disk.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a member may take to say how much room it has.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// Hands over while this node leads without room, until `stop`.
pub(crate) async fn hand_over(
    members: Members,
    directory: Arc<Directory>,
    disk: DiskGuard,
    stop: CancellationToken,
) {
    let mut times = interval(LOOK_EVERY);
    times.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(times.tick()).await.is_some() {
        let status = members.raft.status().borrow().clone();
        if !status.leading || disk.check().is_ok() {
            continue;
        }
        let others = status.voters.iter().filter(|node| **node != status.node_id);
        let others = others.map(async |node| {
            let free = free_of(&directory, NodeId(*node)).await?;
            Some((NodeId(*node), free))
        });
        let others = join_all(others).await.into_iter().flatten();
        let Some(next) = roomiest(others, disk.min_free()) else { continue };
        match members.transfer(Some(next)).await {
            Ok(next) => info!(%next, "the disk is nearly full: another coordinator leads"),
            Err(error) => {
                warn!(%next, %error, "the disk is nearly full, and this node still leads");
            }
        }
    }
}

async fn free_of(directory: &Directory, node: NodeId) -> Option<u64> {
    let request = peer::StatusRequest { hello: Some(directory.hello(node)) };
    let mut client = directory.peer(node)?.control();
    let answer = timeout(ANSWER_WITHIN, client.status(request)).await;
    Some(answer.ok()?.ok()?.into_inner().disk_free)
}

/// Who has the most bytes free, and as many as a leader needs.
fn roomiest(others: impl Iterator<Item = (NodeId, u64)>, needed: u64) -> Option<NodeId> {
    let with_room = others.filter(|(_, free)| *free >= needed);
    with_room.max_by_key(|(_, free)| *free).map(|(node, _)| node)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_has_the_most_room_leads_if_it_is_enough() {
        let others = [(NodeId(2), 99), (NodeId(3), 100), (NodeId(4), 200)];
        let roomiest = |count, needed| roomiest(others.into_iter().take(count), needed);
        assert_eq!(roomiest(3, 100), Some(NodeId(4)));
        assert_eq!(roomiest(2, 100), Some(NodeId(3)));
        assert_eq!(roomiest(1, 100), None, "it would refuse work as well");
        assert_eq!(roomiest(0, 0), None);
    }
}
