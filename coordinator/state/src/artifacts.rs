//! What a job leaves behind for people and for later jobs.

use serde::{Deserialize, Serialize};

/// Which files of a work folder are kept, and when.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifacts {
    /// Patterns of paths in the work folder.
    pub globs: Vec<String>,
    /// Also when the command failed.
    pub always: bool,
}

/// Files that stay on a runner.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Its name; a part of it may stand for the content of files.
    pub key: String,
    /// Files and folders in the work folder.
    pub paths: Vec<String>,
    /// Beginnings of keys that will do.
    pub fallbacks: Vec<String>,
}
