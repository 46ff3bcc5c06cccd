//! What of a job is brought to where its runner looks for it: part of a launch, so that it
//! is the same after a restart.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::executor::ExitStatus;

/// What the file is called that a job writes its outputs into.
pub(crate) const OUTPUT_NAME: &str = "baton-output";
/// The record of it; without one, nothing was brought.
pub(crate) const BROUGHT: &str = "left.json";

/// What a job leaves behind that somebody wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leaves {
    /// The artifacts.
    pub artifacts: Chosen,
    /// They are wanted also when the command fails.
    pub always: bool,
    /// What is kept for later jobs on this runner.
    pub caches: Chosen,
}

/// A choice of files in the work folder, and how much of them there may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chosen {
    /// Patterns, or paths in the case of caches. None is nothing.
    pub names: Vec<String>,
    /// Bytes of files.
    pub bytes: u64,
    /// Files and links.
    pub files: u64,
}

/// What was brought of a job that ran elsewhere. A problem is for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Brought {
    /// Why the artifacts could not be.
    pub(crate) artifacts: Option<String>,
    /// Why what caches keep could not be.
    pub(crate) caches: Option<String>,
    /// Why the file with the outputs could not be.
    pub(crate) outputs: Option<String>,
    /// What of the artifacts did not come along.
    #[serde(default)]
    pub(crate) notes: Vec<String>,
}

/// What is kept of a work folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Artifacts,
    Caches,
}

impl Brought {
    /// Nothing could be.
    pub(crate) fn none(problem: &str) -> Self {
        let problem = Some(problem.to_owned());
        let (artifacts, caches) = (problem.clone(), problem.clone());
        Self { artifacts, caches, outputs: problem, notes: Vec::new() }
    }
}

impl Leaves {
    /// The artifacts are wanted of a command that ended so by itself.
    pub(crate) fn wants_artifacts(&self, status: &ExitStatus) -> bool {
        !self.artifacts.names.is_empty() && (succeeded(status) || self.always && ran(status))
    }

    /// What caches keep is.
    pub(crate) fn wants_caches(&self, status: &ExitStatus) -> bool {
        !self.caches.names.is_empty() && succeeded(status)
    }
}

fn succeeded(status: &ExitStatus) -> bool {
    *status == ExitStatus::Exited(0)
}

fn ran(status: &ExitStatus) -> bool {
    matches!(status, ExitStatus::Exited(_) | ExitStatus::Signaled(_))
}

/// The folder of an attempt that has what was brought of a job that ran elsewhere: the file
/// with the outputs, and a folder for each part.
pub(crate) fn left_folder(dir: &Path) -> PathBuf {
    dir.join("left")
}

/// The folder with a part of that.
pub(crate) fn left(dir: &Path, part: Part) -> PathBuf {
    left_folder(dir).join(match part {
        Part::Artifacts => "artifacts",
        Part::Caches => "caches",
    })
}
