//! What is known of one cache: on the disk, beside its content.

use std::{
    fs::{File, FileTimes},
    io,
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize};

use crate::untrusted;

const NAME: &str = "record";
/// More than the longest paths take.
const LONGEST: u64 = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) key: String,
    pub(super) paths: Vec<String>,
    /// Of all files.
    pub(super) bytes: u64,
    /// Microseconds since the epoch.
    pub(super) saved_at: u64,
}

impl Record {
    pub(super) fn write(&self, folder: &Path) -> io::Result<()> {
        untrusted::replace(&folder.join(NAME), &serde_json::to_vec(self)?)?;
        touch(folder, self.saved_at)
    }

    /// The record, and when the cache was used last.
    pub(super) fn read(folder: &Path) -> io::Result<(Self, u64)> {
        let path = folder.join(NAME);
        let record = serde_json::from_slice(&untrusted::read(&path, LONGEST)?)?;
        let used = path.symlink_metadata()?.modified()?.duration_since(UNIX_EPOCH);
        let used = used.unwrap_or_default().as_micros();
        Ok((record, u64::try_from(used).unwrap_or_default()))
    }
}

/// Notes that the cache was used.
pub(super) fn touch(folder: &Path, now: u64) -> io::Result<()> {
    let used = UNIX_EPOCH + Duration::from_micros(now);
    File::open(folder.join(NAME))?.set_times(FileTimes::new().set_modified(used))
}
