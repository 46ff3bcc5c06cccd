//! A job's whole environment: a base the runner's operator chose, what the job
//! asks for, and facts about the job. Nothing else of the runner's own.

use std::collections::BTreeMap;

use baton_proto::v1;

use crate::executor::AttemptDir;

/// The environment of an attempt on this host.
pub(super) fn of_host(
    base: &BTreeMap<String, String>,
    assign: &v1::Assign,
    dir: &AttemptDir,
    commit: Option<String>,
) -> BTreeMap<String, String> {
    let mut env = base.clone();
    env.insert("TMPDIR".to_owned(), dir.tmp().display().to_string());
    env.insert("BATON_OUTPUT".to_owned(), dir.output().display().to_string());
    env.extend(of_job(assign, commit));
    env
}

/// The part of it that is the same wherever the command runs; `commit` is the one that it
/// works on.
pub(super) fn of_job(assign: &v1::Assign, commit: Option<String>) -> BTreeMap<String, String> {
    let spec = assign.spec.clone().unwrap_or_default();
    let mut env: BTreeMap<_, _> = spec.env.into_iter().collect();
    let facts = [
        ("BATON_JOB_ID", assign.job_id.clone()),
        ("BATON_LEASE", assign.lease.to_string()),
        ("BATON_ATTEMPT", assign.attempt.to_string()),
        ("BATON_PROJECT", spec.project),
    ];
    env.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    env.extend(commit.map(|commit| ("BATON_SOURCE_COMMIT".to_owned(), commit)));
    env
}
