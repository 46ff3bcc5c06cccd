//! What a caller asked for, checked and with every default filled in.

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use crate::{
    artifacts::{Artifacts, Cache, Input},
    member::Level,
};

/// A job as asked for. Never changes once accepted, but for its priority. Durations are
/// milliseconds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JobSpec {
    /// Program and arguments.
    pub command: Vec<String>,
    /// A text for people.
    pub name: String,
    /// The project it belongs to.
    pub project: String,
    /// Variables for the process.
    pub env: BTreeMap<String, String>,
    /// What a runner must offer.
    pub requirements: Requirements,
    /// Higher starts first.
    pub priority: i32,
    /// SIGTERM after this.
    pub soft_timeout: u64,
    /// SIGKILL after this.
    pub timeout: u64,
    /// How long it may wait for a runner.
    pub queue_timeout: Option<u64>,
    /// How many leases it may use.
    pub attempts: u32,
    /// What happens when its runner is lost.
    pub on_lost: OnLost,
    /// The code to work on.
    pub source: Option<Source>,
    /// Bytes of output kept per attempt.
    pub output_limit: u64,
    /// The container, for the Docker executor.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Container>,
    /// What its processes may use together.
    #[serde(default, skip_serializing_if = "Resources::is_unlimited")]
    pub resources: Resources,
    /// What is kept of its work folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub artifacts: Option<Artifacts>,
    /// What stays on the runner from one job to the next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub caches: Vec<Cache>,
    /// Artifacts of earlier jobs that it needs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub inputs: Vec<Input>,
    /// Names of variables whose values nobody is shown.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub masks: BTreeSet<String>,
    /// The trace that it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<Trace>,
}

/// W3C Trace Context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trace {
    /// `traceparent`.
    pub parent: String,
    /// `tracestate`; may be empty.
    pub state: String,
}

impl JobSpec {
    /// The archive that it needs to be stored, if it does.
    #[must_use]
    pub fn archive(&self) -> Option<&Archive> {
        match &self.source {
            Some(Source::Archive(archive)) => Some(archive),
            Some(Source::Git(_) | Source::Workspace(_) | Source::Tree(_)) | None => None,
        }
    }

    /// The tree that it needs to be stored, if it does.
    #[must_use]
    pub fn tree(&self) -> Option<&Tree> {
        match &self.source {
            Some(Source::Tree(tree)) => Some(tree),
            Some(Source::Archive(_) | Source::Git(_) | Source::Workspace(_)) | None => None,
        }
    }

    /// The manifests of all trees that it needs to be stored.
    pub fn trees(&self) -> impl Iterator<Item = &str> {
        let source = self.tree().map(|tree| tree.digest.as_str());
        source.into_iter().chain(self.inputs.iter().map(|input| input.tree.digest.as_str()))
    }

    /// The first level that knows every field and value it has.
    #[must_use]
    pub fn level(&self) -> Level {
        if self.trace.is_some() || !is_any(&self.requirements.level) {
            Level(3)
        } else {
            self.runner_level()
        }
    }

    /// The first level whose runners do all that it asks for. A trace does not count:
    /// the job is the same without it.
    #[must_use]
    pub fn runner_level(&self) -> Level {
        let is_local = self.requirements.executor == Executor::Local;
        let source = match self.source {
            None | Some(Source::Archive(_)) => Level(1),
            Some(Source::Git(_)) => Level(2),
            // Elsewhere, runners of level 2 start the command in another folder.
            Some(Source::Workspace(_)) if is_local => Level(2),
            Some(Source::Workspace(_) | Source::Tree(_)) => Level(3),
        };
        let moves_files =
            self.artifacts.is_some() || !self.caches.is_empty() || !self.inputs.is_empty();
        let fields = if moves_files || !self.masks.is_empty() {
            Level(3)
        } else if !is_local || self.container.is_some() || !self.resources.is_unlimited() {
            Level(2)
        } else {
            Level(1)
        };
        source.max(fields)
    }
}

/// What a runner must offer to take a job. Jobs with equal requirements share a queue.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Requirements {
    /// Labels that the runner must all have.
    pub labels: BTreeSet<String>,
    /// Where the command is to run.
    #[serde(default, skip_serializing_if = "Executor::is_local")]
    pub executor: Executor,
    /// The oldest job specifications that it must understand; 0 is any.
    #[serde(default, skip_serializing_if = "is_any")]
    pub level: Level,
}

fn is_any(level: &Level) -> bool {
    *level == Level::default()
}

impl fmt::Display for Requirements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, label) in self.labels.iter().enumerate() {
            let separator = if position == 0 { "" } else { ", " };
            write!(f, "{separator}{label}")?;
        }
        Ok(())
    }
}

/// Where a command runs.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Executor {
    /// As a process of the runner's host.
    #[default]
    Local,
    /// In a container.
    Docker,
    /// On the host that the runner knows by this name.
    Ssh(String),
}

impl Executor {
    fn is_local(&self) -> bool {
        *self == Self::Local
    }

    /// What runners call it when they speak of its health.
    #[must_use]
    pub fn name(&self) -> Cow<'static, str> {
        match self {
            Self::Local => "local".into(),
            Self::Docker => "docker".into(),
            Self::Ssh(target) => format!("ssh:{target}").into(),
        }
    }
}

impl fmt::Display for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Local => f.write_str("executor local"),
            Self::Docker => f.write_str("executor docker"),
            Self::Ssh(target) => write!(f, "SSH target {target}"),
        }
    }
}

/// A container to run the command in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Container {
    /// Its image.
    pub image: String,
    /// When to pull that.
    pub pull: Pull,
    /// In place of the image's; an empty one is none.
    pub entrypoint: Option<Vec<String>>,
    /// In place of the image's.
    pub user: Option<String>,
    /// In place of the engine's usual one.
    pub network: Option<String>,
    /// Folders of the host.
    pub mounts: Vec<Mount>,
    /// Folders in memory.
    pub tmpfs: Vec<Tmpfs>,
    /// Containers beside it.
    pub services: Vec<Service>,
}

/// When an image is pulled.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Pull {
    /// When the engine does not have it.
    #[default]
    Missing,
    /// Each time.
    Always,
    /// Not at all.
    Never,
}

/// A folder of the runner's host inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Mount {
    /// On the host.
    pub source: String,
    /// In the container.
    pub target: String,
    /// It cannot be changed in the container.
    pub read_only: bool,
}

/// A folder in memory inside a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tmpfs {
    /// In the container.
    pub target: String,
    /// Bytes.
    pub size: Option<u64>,
}

/// A container beside the job's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Service {
    /// By which the job finds it.
    pub name: String,
    /// Its image.
    pub image: String,
    /// Variables for it.
    pub env: BTreeMap<String, String>,
    /// In place of the image's; an empty one is the image's.
    pub command: Vec<String>,
    /// Exits with 0 in it when it is ready; an empty one is the image's.
    pub health: Vec<String>,
    /// Milliseconds that it may take to be ready.
    pub ready_within: u64,
}

/// What the processes of a job may use together. None is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resources {
    /// Thousandths of a processor.
    pub cpu_millis: Option<u32>,
    /// Bytes.
    pub memory: Option<u64>,
    /// Processes and threads at once.
    pub processes: Option<u32>,
    /// Of each process.
    pub open_files: Option<u32>,
}

impl Resources {
    fn is_unlimited(&self) -> bool {
        *self == Self::default()
    }
}

/// What happens to a job whose runner is lost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OnLost {
    /// Start it again, while attempts are left.
    #[default]
    Requeue,
    /// End it as lost.
    Fail,
    /// Keep the lease until the runner is back or the job is cancelled.
    Wait,
}

/// Where the code comes from. An archive is written as it was before there was anything
/// else, so each kind is known by its fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Source {
    /// An uploaded archive.
    Archive(Archive),
    /// A Git repository.
    Git(Git),
    /// A folder of the runner's host.
    Workspace(Workspace),
    /// A folder that was sent in pieces.
    Tree(Tree),
}

/// An uploaded archive, named by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Archive {
    /// BLAKE3, 64 hexadecimal digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
}

/// A folder that was sent in pieces: its manifest, named by its content.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tree {
    /// BLAKE3 of the manifest, 64 hexadecimal digits.
    pub digest: String,
    /// Bytes of the manifest.
    pub size: u64,
    /// The sum of all files' sizes, in bytes.
    pub content: u64,
}

/// A commit of a Git repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Git {
    /// Where it is, without any secret.
    pub url: String,
    /// Branch, tag, commit or full name; empty for the repository's HEAD.
    pub reference: String,
    /// Commits of history to have; 0 for all.
    pub depth: u32,
    /// Whether submodules come along.
    pub submodules: bool,
    /// Whether files in Git LFS do.
    pub lfs: bool,
}

/// A folder that is on the runner's host already.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workspace {
    /// Below the folder that the runner keeps workspaces in.
    pub path: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(source: &Source) -> Vec<u8> {
        rmp_serde::to_vec_named(source).unwrap()
    }

    #[test]
    fn an_archive_is_written_as_it_was_before_there_were_other_sources() {
        let archive = Archive { digest: "00".repeat(32), size: u64::MAX };
        let old = rmp_serde::to_vec_named(&archive).unwrap();
        assert_eq!(bytes(&Source::Archive(archive.clone())), old);
        assert_eq!(rmp_serde::from_slice::<Source>(&old).unwrap(), Source::Archive(archive));
    }

    #[test]
    fn each_kind_of_source_is_read_back_and_none_with_a_field_more() {
        let (url, reference) = ("https://example.org/x".to_owned(), "main".to_owned());
        let git = Git { url, reference, depth: 1, submodules: true, lfs: false };
        let workspace = Workspace { path: "a".to_owned() };
        let tree = Tree { digest: "00".repeat(32), size: 1, content: 2 };
        for source in [Source::Git(git), Source::Workspace(workspace), Source::Tree(tree)] {
            assert_eq!(rmp_serde::from_slice::<Source>(&bytes(&source)).unwrap(), source);
            assert!(rmp_serde::from_slice::<Archive>(&bytes(&source)).is_err());
        }
        let more = std::collections::BTreeMap::from([("path", "a"), ("mode", "b")]);
        let more = rmp_serde::to_vec_named(&more).unwrap();
        assert!(rmp_serde::from_slice::<Source>(&more).is_err());
    }
}
