//! Finds out that this node is cut off: without a leader, and without the others that it
//! takes to have one. While an election can go on, nothing is found.

use std::{sync::Arc, time::Duration};

use baton_state::NodeId;
use futures::future::join_all;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{CutOff, Reach};
use crate::{
    peers::Directory,
    raft::{RaftHandle, Status},
};

const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a majority must have been out of reach: longer than a restart of a connection.
const CUT_OFF_AFTER: Duration = Duration::from_secs(2);

/// Notes whether this node is cut off, until `stop`.
pub(crate) async fn watch_majority(
    raft: RaftHandle,
    directory: Arc<Directory>,
    reach: Reach,
    stop: CancellationToken,
) {
    stop.run_until_cancelled(async {
        let mut times = interval(LOOK_EVERY);
        times.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let status = raft.status();
        let mut since = None;
        loop {
            times.tick().await;
            let asked = Instant::now();
            let others = searching(&status.borrow());
            let lost = match others {
                Some(others) => lost(&directory, others).await,
                None => None,
            };
            let Some(lost) = lost else {
                since = None;
                note(&reach, None);
                continue;
            };
            if since.get_or_insert(asked).elapsed() >= CUT_OFF_AFTER {
                note(&reach, Some(lost));
            }
        }
    })
    .await;
}

/// The other voters, if this node looks for a leader among them.
fn searching(status: &Status) -> Option<Vec<NodeId>> {
    if status.leader_id != 0 || status.failure.is_some() || status.voters.is_empty() {
        return None;
    }
    let others = status.voters.iter().filter(|voter| **voter != status.node_id);
    Some(others.map(|voter| NodeId(*voter)).collect())
}

/// How few of the others answer, if with this node they are no majority.
async fn lost(directory: &Directory, others: Vec<NodeId>) -> Option<CutOff> {
    let asked = others.iter().map(async |node| directory.status_of(*node).await.is_ok());
    let reached = join_all(asked).await.into_iter().filter(|answered| *answered).count();
    CutOff { reached, others: others.len() }.if_too_few()
}

impl CutOff {
    fn if_too_few(self) -> Option<Self> {
        ((self.reached + 1) * 2 <= self.others + 1).then_some(self)
    }
}

fn note(reach: &Reach, cut_off: Option<CutOff>) {
    let before = reach.now().cut_off;
    match (before, cut_off) {
        (None, Some(cut_off)) => warn!("{cut_off}; callers are sent away"),
        (Some(_), None) => info!("this coordinator is not cut off any more"),
        _ => {}
    }
    reach.note(|reached| reached.cut_off = cut_off);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_more_than_half_with_this_node() {
        let lost = |reached, others| CutOff { reached, others }.if_too_few().is_some();
        assert!(lost(0, 2) && !lost(1, 2), "three coordinators");
        assert!(lost(1, 4) && !lost(2, 4), "five");
        assert!(lost(0, 1) && !lost(1, 1), "two");
        assert!(!lost(0, 0), "one");
    }

    #[test]
    fn only_who_knows_of_no_leader_looks_for_the_others() {
        let status = |leader_id, voters: &[u64]| Status {
            node_id: 1,
            leader_id,
            voters: voters.to_vec(),
            ..Status::default()
        };
        assert_eq!(searching(&status(0, &[1, 2, 3])), Some(vec![NodeId(2), NodeId(3)]));
        assert_eq!(searching(&status(2, &[1, 2, 3])), None);
        assert_eq!(searching(&status(0, &[])), None, "it has no log yet");
        let failed = Status { failure: Some("disk".to_owned()), ..status(0, &[1, 2, 3]) };
        assert_eq!(searching(&failed), None);
    }
}
