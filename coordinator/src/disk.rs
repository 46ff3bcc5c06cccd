//! Refuses new work while the data disk is nearly full, so that what is
//! accepted can also be finished.

use std::{path::PathBuf, sync::Arc};

use baton_proto::error::{ApiError, Reason};
use nix::sys::statvfs::statvfs;

/// Watches the free space of one folder's disk. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct DiskGuard {
    folder: Arc<PathBuf>,
    min_free: u64,
}

/// Bytes of a disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Space {
    /// Those that this process could still fill.
    pub(crate) free: u64,
    pub(crate) total: u64,
}

impl DiskGuard {
    /// A guard that wants `min_free` bytes free on the disk of `folder`.
    pub(crate) fn new(folder: PathBuf, min_free: u64) -> Self {
        Self { folder: Arc::new(folder), min_free }
    }

    /// Bytes that stay free for what was accepted.
    pub(crate) fn min_free(&self) -> u64 {
        self.min_free
    }

    /// How much there is; none when the disk cannot be asked.
    pub(crate) fn space(&self) -> Option<Space> {
        let disk = statvfs(self.folder.as_path()).ok()?;
        let bytes = |blocks: u64| blocks.saturating_mul(disk.fragment_size());
        Some(Space { free: bytes(disk.blocks_available()), total: bytes(disk.blocks()) })
    }

    /// Whether new work may be accepted.
    pub(crate) fn check(&self) -> Result<(), ApiError> {
        // A disk that cannot be asked will show its fault when it is written to.
        let Some(Space { free, .. }) = self.space() else {
            return Ok(());
        };
        if free >= self.min_free {
            return Ok(());
        }
        let mib = |bytes: u64| bytes / (1024 * 1024);
        Err(ApiError::new(
            Reason::DiskFull,
            format!(
                "the coordinator has {} MiB of disk left and keeps {} MiB for what it has accepted",
                mib(free),
                mib(self.min_free)
            ),
            "free space on the coordinator's data disk or shorten its retention, then try again",
        ))
    }
}
