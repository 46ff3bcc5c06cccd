//! How many callers may read output at once. Each holds some of it in memory for
//! as long as it reads, however slowly, so their number is what bounds the memory.

use std::sync::Arc;

use baton_proto::error::{ApiError, Reason};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Readers at once.
const READERS: usize = 256;

/// Pieces of output that wait for one reader, each of at most 64 KiB.
pub(super) const QUEUE: usize = 4;

/// The places of readers. Clones share them.
#[derive(Clone, Debug)]
pub(crate) struct Readers(Arc<Semaphore>);

impl Default for Readers {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READERS)))
    }
}

impl Readers {
    /// A place, free again when it is dropped.
    pub(super) fn take(&self) -> Result<OwnedSemaphorePermit, ApiError> {
        Arc::clone(&self.0).try_acquire_owned().map_err(|_| {
            ApiError::new(
                Reason::TooManyReaders,
                format!("{READERS} callers read output already"),
                "try again when others have ended",
            )
        })
    }
}
