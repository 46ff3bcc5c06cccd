//! Backups, and what was made of them.

use std::path::Path;

use baton_coordinator::backup::Restored;
use jiff::Timestamp;
use serde::Serialize;

/// A backup that was written.
#[derive(Debug, Serialize)]
pub(crate) struct BackupView {
    pub(crate) file: String,
    pub(crate) bytes: u64,
    /// Files of jobs that are not in it.
    pub(crate) missing_files: u64,
}

/// A data folder that was made of a backup.
#[derive(Debug, Serialize)]
pub(crate) struct RestoreView {
    pub(crate) data: String,
    pub(crate) cluster_id: String,
    pub(crate) from_cluster_id: String,
    pub(crate) taken_at: Option<Timestamp>,
    pub(crate) files: u64,
    pub(crate) file_bytes: u64,
    pub(crate) missing_files: u64,
}

impl RestoreView {
    pub(crate) fn new(data: &Path, restored: Restored) -> Self {
        let taken_at = i64::try_from(restored.taken_at).ok();
        Self {
            data: data.display().to_string(),
            cluster_id: restored.cluster_id,
            from_cluster_id: restored.from_cluster,
            taken_at: taken_at.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
            files: restored.files,
            file_bytes: restored.file_bytes,
            missing_files: restored.missing_files,
        }
    }
}
