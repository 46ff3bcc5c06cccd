//! The options of a job that say what it leaves behind, for people and for later jobs.

use baton_proto::v1;
use clap::{Args, ValueEnum};

use crate::{exit::UsageError, job_file::Places};

/// What a job leaves behind.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "Artifacts and caches")]
pub(crate) struct KeepingOptions {
    /// Files of the work folder to keep when the command has ended, such as out or
    /// '**/*.xml'; may be repeated
    #[arg(long = "artifact", value_name = "GLOB")]
    pub(crate) artifacts: Vec<String>,
    /// When to keep them [default: success]
    #[arg(long, value_enum, value_name = "WHEN")]
    pub(crate) artifact_when: Option<ArtifactWhen>,
    /// Put the artifacts of an earlier job into the work folder, or into this folder in it;
    /// may be repeated
    #[arg(long = "input", value_name = "JOB[:PATH]", value_parser = input)]
    pub(crate) inputs: Vec<Input>,
    /// Files and folders that stay on the runner for later jobs with this key, in which
    /// {hash:GLOB} stands for the content of files; may be repeated
    #[arg(long = "cache", value_name = "KEY=PATH[,PATH...]", value_parser = cache)]
    pub(crate) caches: Vec<Cache>,
    /// Where there is no cache of that key, take the newest whose key begins so; may be
    /// repeated, the first that fits counts
    #[arg(long = "cache-fallback", value_name = "PREFIX")]
    pub(crate) cache_fallbacks: Vec<String>,
}

/// When artifacts are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ArtifactWhen {
    /// When the command exits with 0
    Success,
    /// Also when it fails, but not when it is killed or cancelled
    Always,
}

/// Files that stay on a runner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cache {
    key: String,
    paths: Vec<String>,
}

/// The artifacts of an earlier job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Input {
    job_id: String,
    path: String,
}

impl KeepingOptions {
    /// The artifacts of earlier jobs.
    pub(crate) fn inputs(&self) -> Vec<v1::Input> {
        let input = |Input { job_id, path }: &Input| v1::Input {
            job_id: job_id.clone(),
            path: path.clone(),
            tree: None,
        };
        self.inputs.iter().map(input).collect()
    }

    /// The artifacts; None where nothing is said.
    ///
    /// # Errors
    /// [`UsageError`] when it is said when, and not what.
    pub(crate) fn artifacts(&self, places: &Places) -> Result<Option<v1::Artifacts>, UsageError> {
        if self.artifacts.is_empty() {
            if self.artifact_when.is_none() {
                return Ok(None);
            }
            let place = places.get("artifact_when").map_or("--artifact-when", String::as_str);
            return Err(UsageError(format!("{place}: there is no artifact to keep")));
        }
        let when = match self.artifact_when {
            None | Some(ArtifactWhen::Success) => v1::ArtifactsWhen::Success,
            Some(ArtifactWhen::Always) => v1::ArtifactsWhen::Always,
        };
        Ok(Some(v1::Artifacts { globs: self.artifacts.clone(), when: when.into() }))
    }

    /// The caches.
    ///
    /// # Errors
    /// [`UsageError`] when there is a fallback for none.
    pub(crate) fn caches(&self, places: &Places) -> Result<Vec<v1::Cache>, UsageError> {
        if self.caches.is_empty() && !self.cache_fallbacks.is_empty() {
            let place = places.get("cache_fallbacks").map_or("--cache-fallback", String::as_str);
            return Err(UsageError(format!("{place}: there is no cache to fall back for")));
        }
        let cache = |Cache { key, paths }: &Cache| v1::Cache {
            key: key.clone(),
            paths: paths.clone(),
            fallbacks: self.cache_fallbacks.clone(),
        };
        Ok(self.caches.iter().map(cache).collect())
    }
}

/// `JOB:PATH`. What they may be is the coordinator's to judge.
#[expect(clippy::unnecessary_wraps, reason = "as the others are parsed")]
pub(crate) fn input(text: &str) -> Result<Input, String> {
    let (job_id, path) = text.split_once(':').unwrap_or((text, ""));
    Ok(Input { job_id: job_id.to_owned(), path: path.to_owned() })
}

/// `KEY=PATH,PATH`. What they may be is the coordinator's to judge.
pub(crate) fn cache(text: &str) -> Result<Cache, String> {
    let (key, paths) = text.split_once('=').ok_or("not of the form KEY=PATH[,PATH...]")?;
    Ok(Cache { key: key.to_owned(), paths: paths.split(',').map(str::to_owned).collect() })
}

/// A time to keep artifacts by the name that it has as an option.
pub(crate) fn artifact_when(text: &str) -> Result<ArtifactWhen, String> {
    ArtifactWhen::from_str(text, false).map_err(|_| "must be success or always".to_owned())
}
