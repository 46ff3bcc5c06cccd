//! What a writer may count on: bytes on disk at a majority of the voters.

use std::sync::Arc;

use tokio::sync::watch;

use super::{Shared, quorum::Standing};
use crate::files::{Durable, FileName, FilesError};

/// How many bytes of a file a majority of the voters has on disk, as one appender
/// may count on. Never becomes less.
pub(crate) struct Kept {
    shared: Arc<Shared>,
    name: FileName,
    local: Durable,
    told: watch::Receiver<()>,
    standing: watch::Receiver<Standing>,
    length: u64,
}

impl Kept {
    pub(super) fn new(shared: Arc<Shared>, name: FileName, local: Durable) -> Self {
        let (told, standing) = (shared.view.subscribe(name), shared.standing.clone());
        Self { shared, name, local, told, standing, length: 0 }
    }

    /// Bytes that are kept now.
    ///
    /// # Errors
    /// The appender is over, as [`Durable::length`].
    pub(crate) fn length(&mut self) -> Result<u64, FilesError> {
        // In this order, so that nothing told meanwhile is missed.
        self.told.mark_unchanged();
        let local = self.local.length()?;
        let standing = self.standing.borrow_and_update();
        let length = self.shared.view.durable(&standing, self.name, local);
        self.length = self.length.max(length);
        Ok(self.length)
    }

    /// Waits until more is kept than the last call said. May be dropped at any time.
    ///
    /// # Errors
    /// As [`Kept::length`].
    pub(crate) async fn grown(&mut self) -> Result<u64, FilesError> {
        let before = self.length;
        loop {
            let length = self.length()?;
            if length > before {
                return Ok(length);
            }
            tokio::select! {
                biased;
                local = self.local.changed() => { local?; }
                // The view and whoever told the standing keep the senders as long as
                // the node runs.
                Ok(()) = self.told.changed() => {}
                Ok(()) = self.standing.changed() => {}
            }
        }
    }
}
