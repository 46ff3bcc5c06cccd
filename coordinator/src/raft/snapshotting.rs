//! This node's own snapshots: written beside the work, on a thread of their own;
//! then the log before them is given up.

use std::{sync::PoisonError, thread};

use tracing::{debug, error, warn};

use super::{RaftError, handle::Input, node::Node, store::SnapshotRecord};

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
        let work = move || {
            // The log is what the history is made from: it goes only when that is safe.
            let result = match history.map_or(Ok(()), |history| history.secure(index)) {
                Ok(()) => snapshots.save(&copy, term, &members),
                Err(source) => Err(RaftError::Snapshot {
                    action: "secure the history before",
                    path: format!("snapshot-{index}").into(),
                    source,
                }),
            };
            // The node may have stopped meanwhile.
            let _ = input.send(Input::Snapshotted(result));
        };
        match thread::Builder::new().name("raft-snapshot".to_owned()).spawn(work) {
            Ok(thread) => self.snapshotting = Some(thread),
            Err(error) => error!(%error, "cannot start the snapshot thread; trying again later"),
        }
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
