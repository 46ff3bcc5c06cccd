//! A cluster in one file: made while it runs, and made into another cluster.
//!
//! Everything in a backup is as of one entry of the log: the state, the history (copied
//! later and cut back to that entry) and the files of the jobs in both. Files only grow,
//! so what the state and the history say of them is in them.
//!
//! ```text
//! blocks ( zstd ( tar: backup.json, state, history.db, files/KIND/NAME…, end.json ) )
//! ```
//!
//! What is made of it is another cluster, with a name of its own and one member. Its log
//! begins far beyond the entry of the backup: what was granted later, by the cluster that
//! is gone or is not, has lease numbers that this one never gives out.

mod blocks;
mod make;
mod place;
mod restore;
mod schedule;
#[cfg(test)]
mod tests;

use baton_state::Index;
use serde::{Deserialize, Serialize};

pub(crate) use self::make::Backups;
pub(crate) use self::schedule::run as keep_schedule;
pub use self::{
    blocks::{Checker, Damage},
    place::Place,
    restore::{RestoreError, Restored, restore},
    schedule::Schedule,
};

/// The names of what is in a backup.
const FACTS: &str = "backup.json";
const STATE: &str = "state";
const HISTORY: &str = "history.db";
const FILES: &str = "files/";
const END: &str = "end.json";

/// What a backup is of: its first part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Facts {
    cluster_id: String,
    /// The last entry that is in it.
    index: Index,
    /// The term at that time.
    term: u64,
    /// When, in milliseconds since the epoch.
    taken_at: u64,
    /// Baton's version that made it.
    version: String,
}

/// What was put into a backup: its last part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Contents {
    /// Files of jobs.
    files: u64,
    /// Their bytes.
    file_bytes: u64,
    /// Files that no coordinator had which could be reached.
    #[serde(default)]
    missing_files: u64,
}
