//! This node's own snapshots: written beside the work, by a task of their own; then
//! the log before them is given up.

use std::{
    io,
    sync::{Arc, PoisonError},
};

use baton_state::Index;
use tracing::{debug, warn};

use super::{RaftError, handle::Input, node::Node, store::SnapshotRecord};
use crate::environment::blocking;

impl Node {
    /// Starts to write a snapshot when enough entries have come since the last one,
    /// or a follower needs one.
    pub(super) fn start_snapshot_if_due(&mut self) {
        let newest = self.raw.store().snapshot_record().map_or(0, |record| record.index);
        if self.raw.store().take_wanted() && newest < self.applied {
            self.next_snapshot = self.applied;
        }
        if self.snapshotting.is_some() || self.applied < self.next_snapshot {
            return;
        }
        let copy = self.state.read().unwrap_or_else(PoisonError::into_inner).clone();
        let index = copy.applied();
        let term = self.applied_term;
        let members = self.raw.store().conf_state().clone();
        let snapshots = self.snapshots.clone();
        let history = self.options.history.clone();
        let input = self.input.clone();
        let threads = Arc::clone(&self.options.environment.blocking);
        let work = async move {
            // The log is what the history is made from: it goes only when that is safe.
            let secured = match &history {
                Some(history) => history.secure(index).await,
                None => Ok(()),
            };
            let result = match secured {
                Ok(()) => {
                    let save = move || snapshots.save(&copy, term, &members);
                    let saved = blocking(&*threads, save).await;
                    saved.unwrap_or_else(|dropped| Err(unsaved("write", index, dropped)))
                }
                Err(error) => Err(unsaved("secure the history before", index, error)),
            };
            // The node may have stopped meanwhile.
            let _ = input.send(Input::Snapshotted(result));
        };
        self.snapshotting = Some(self.options.runtime.spawn(work));
    }

    pub(super) fn snapshotted(
        &mut self,
        result: Result<SnapshotRecord, RaftError>,
    ) -> Result<(), RaftError> {
        self.snapshotting = None;
        self.next_snapshot = self.applied + self.options.snapshot_every;
        let record = match result {
            Ok(record) => record,
            Err(error) => {
                // The log is kept whole instead.
                warn!(%error, "no snapshot; trying again later");
                return Ok(());
            }
        };
        let index = record.index;
        let before = self.raw.store().snapshot_record().map_or(0, |record| record.index);
        if index <= before {
            // Another node's snapshot has overtaken it.
            return Ok(());
        }
        self.raw.mut_store().compact(record, self.options.snapshot_every / 2)?;
        self.raw.mut_store().purge()?;
        self.next_snapshot = index + self.options.snapshot_every;
        // The one before may still be on its way to a follower.
        if let Err(error) = self.snapshots.keep(&[before, index]) {
            debug!(%error, "an old snapshot is left over");
        }
        Ok(())
    }
}

fn unsaved(
    action: &'static str,
    index: Index,
    error: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> RaftError {
    let path = format!("snapshot-{index}").into();
    RaftError::Snapshot { action, path, source: io::Error::other(error) }
}
