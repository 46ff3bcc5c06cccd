//! What a job leaves behind for people and for later jobs.

use serde::{Deserialize, Serialize};

use crate::ids::JobId;

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

/// A folder of artifacts, named by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArtifactTree {
    /// BLAKE3 of the manifest, 64 hexadecimal digits.
    pub digest: String,
    /// Bytes of the manifest.
    pub size: u64,
    /// Regular files.
    pub files: u64,
    /// The sum of their sizes, in bytes.
    pub content: u64,
}

/// The artifacts of an earlier job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Input {
    /// Whose.
    pub job: JobId,
    /// A folder in the work folder; that itself when empty.
    pub path: String,
    /// What they were when this job was submitted.
    pub tree: ArtifactTree,
}
