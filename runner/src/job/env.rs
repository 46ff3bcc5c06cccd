//! A job's whole environment: a base the runner's operator chose, what the job
//! asks for, and facts about the job. Nothing else of the runner's own.

use std::collections::BTreeMap;

use baton_proto::v1;

use crate::executor::AttemptDir;

/// The environment of one attempt.
pub(super) fn environment(
    base: &BTreeMap<String, String>,
    assign: &v1::Assign,
    dir: &AttemptDir,
    commit: Option<String>,
) -> BTreeMap<String, String> {
    let mut env = base.clone();
    env.insert("TMPDIR".to_owned(), dir.tmp().display().to_string());
    let spec = assign.spec.clone().unwrap_or_default();
    env.extend(spec.env);
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
