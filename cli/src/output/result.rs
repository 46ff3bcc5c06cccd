//! What `--result-file` gets: how `run` or `jobs wait` ended, for programs.
//! Stable like `views`; how the file is written is `result_file`'s.

use std::{collections::BTreeMap, path::Path};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;

use super::{result_file, views::JobView};

/// How the command ended. Without a job, `job_id` and all that comes from a
/// job are null.
#[derive(Debug, Default, Serialize)]
pub(crate) struct RunResult {
    pub(crate) job_id: Option<String>,
    /// The job's state as last seen.
    pub(crate) state: Option<&'static str>,
    /// What the command exits with.
    pub(crate) exit_code: u8,
    /// What the job's process exited with; 128+n when signal n ended it.
    pub(crate) job_exit_code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) reason: String,
    pub(crate) message: String,
    /// How many leases the job has had.
    pub(crate) attempts: usize,
    pub(crate) runner: Option<String>,
    /// How much of the output was shown when the command left: all of the attempts
    /// before this one, and so many bytes of it.
    pub(crate) output_attempt: Option<u32>,
    pub(crate) output_offset: Option<u64>,
    pub(crate) stdout_length: Option<u64>,
    pub(crate) stdout_blake3: Option<String>,
    pub(crate) stderr_length: Option<u64>,
    pub(crate) stderr_blake3: Option<String>,
    pub(crate) dropped: Option<u64>,
    pub(crate) tree_gone: Option<bool>,
    pub(crate) killed: Option<u32>,
    /// What the job said by names.
    pub(crate) outputs: BTreeMap<String, String>,
    pub(crate) dead_letter: bool,
    pub(crate) submitted_at: Option<Timestamp>,
    pub(crate) started_at: Option<Timestamp>,
    pub(crate) finished_at: Option<Timestamp>,
}

impl RunResult {
    /// The result as far as `job` tells it; `exit_code` is the caller's to fill.
    pub(crate) fn of(job: &JobView) -> Self {
        let attempt = job.attempts.last();
        let outcome = job.outcome.as_ref();
        let log = attempt.and_then(|attempt| attempt.log.as_ref());
        Self {
            job_id: Some(job.id.clone()),
            state: Some(job.state),
            exit_code: 0,
            job_exit_code: outcome.and_then(|outcome| outcome.exit_code),
            signal: outcome.and_then(|outcome| outcome.signal),
            reason: outcome.map(|outcome| outcome.reason.clone()).unwrap_or_default(),
            message: outcome.map(|outcome| outcome.message.clone()).unwrap_or_default(),
            attempts: job.attempts.len(),
            runner: attempt.map(|attempt| attempt.runner_name.clone()),
            output_attempt: None,
            output_offset: None,
            stdout_length: log.map(|log| log.stdout_length),
            stdout_blake3: log.map(|log| log.stdout_blake3.clone()),
            stderr_length: log.map(|log| log.stderr_length),
            stderr_blake3: log.map(|log| log.stderr_blake3.clone()),
            dropped: log.map(|log| log.dropped),
            tree_gone: outcome.map(|outcome| outcome.tree_gone),
            killed: outcome.map(|outcome| outcome.killed),
            outputs: outcome.map(|outcome| outcome.outputs.clone()).unwrap_or_default(),
            dead_letter: job.dead_letter,
            submitted_at: job.submitted_at,
            started_at: attempt.and_then(|attempt| attempt.started_at),
            finished_at: job.finished_at,
        }
    }

    /// Puts the result into `path`, replacing what is there.
    ///
    /// # Errors
    /// When the folder cannot be written to; `path` is then as it was.
    pub(crate) fn write(&self, path: &Path) -> anyhow::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        result_file::write(path, &text).with_context(|| format!("cannot write {}", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn the_file_keeps_its_field_names_and_replaces_an_older_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r.json");
        std::fs::write(&path, "old").unwrap();
        RunResult { exit_code: 124, ..RunResult::default() }.write(&path).unwrap();
        let value: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let names: Vec<_> = value.as_object().unwrap().keys().cloned().collect();
        assert_eq!(
            names,
            [
                "attempts",
                "dead_letter",
                "dropped",
                "exit_code",
                "finished_at",
                "job_exit_code",
                "job_id",
                "killed",
                "message",
                "output_attempt",
                "output_offset",
                "outputs",
                "reason",
                "runner",
                "signal",
                "started_at",
                "state",
                "stderr_blake3",
                "stderr_length",
                "stdout_blake3",
                "stdout_length",
                "submitted_at",
                "tree_gone",
            ]
        );
        assert_eq!(value["exit_code"], 124);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }
}
