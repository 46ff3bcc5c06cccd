//! Takes what happened from the Raft node to the history, by way of a task of its
//! own: while the history waits for its disk, Raft must go on. What waits here is
//! bounded by refusing submissions, not by this.

use baton_state::{Event, Index, State};
use tokio::{sync::mpsc, task::JoinSet};

use super::{Batch, Sender};
use crate::raft::Observer;

/// Tells a history of every entry. The task ends with it.
pub(crate) struct Feed {
    batches: mpsc::UnboundedSender<Batch>,
    _feeding: JoinSet<()>,
}

impl Feed {
    /// Inside a runtime.
    pub(crate) fn start(history: Sender) -> Self {
        let (sender, mut batches) = mpsc::unbounded_channel();
        let mut feeding = JoinSet::new();
        feeding.spawn(async move {
            while let Some(batch) = batches.recv().await {
                if history.send(batch).await.is_err() {
                    // It was stopped; the log keeps what it lacks.
                    return;
                }
            }
        });
        Self { batches: sender, _feeding: feeding }
    }
}

impl Observer for Feed {
    fn applied(&self, through: Index, _state: &State, events: &[Event]) {
        // Nobody receives once the history was stopped; the log keeps what it lacks.
        let _ = self.batches.send(Batch { through, events: events.to_vec() });
    }
}
