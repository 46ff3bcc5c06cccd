//! A job's whole environment: a base the runner's operator chose, what the job
//! asks for, and facts about the job. Nothing else of the runner's own.

use std::collections::BTreeMap;

use baton_proto::{trace::trace_id, v1};

use crate::executor::AttemptDir;

/// The job's own token for the coordinators. It is masked in the job's output.
pub(super) const TOKEN: &str = "BATON_TOKEN";

/// The environment of an attempt on this host.
pub(super) fn of_host(
    base: &BTreeMap<String, String>,
    assign: &v1::Assign,
    dir: &AttemptDir,
    addresses: &str,
    commit: Option<String>,
) -> BTreeMap<String, String> {
    let mut env = base.clone();
    env.insert("TMPDIR".to_owned(), dir.tmp().display().to_string());
    env.insert("BATON_OUTPUT".to_owned(), dir.output().display().to_string());
    env.extend(of_job(assign, addresses, commit));
    env
}

/// The part of it that is the same wherever the command runs; `addresses` are those of the
/// coordinators, `commit` is the one that it works on.
pub(super) fn of_job(
    assign: &v1::Assign,
    addresses: &str,
    commit: Option<String>,
) -> BTreeMap<String, String> {
    let spec = assign.spec.clone().unwrap_or_default();
    let mut env: BTreeMap<_, _> = spec.env.into_iter().collect();
    let facts = [
        ("BATON_JOB_ID", assign.job_id.clone()),
        ("BATON_LEASE", assign.lease.to_string()),
        ("BATON_ATTEMPT", assign.attempt.to_string()),
        ("BATON_PROJECT", spec.project),
    ];
    env.extend(facts.map(|(name, value)| (name.to_owned(), value)));
    if !assign.token.is_empty() {
        env.insert("BATON_ADDR".to_owned(), addresses.to_owned());
        env.insert(TOKEN.to_owned(), assign.token.clone());
    }
    if let Some(trace) = trace_id(&spec.trace_parent) {
        env.insert("BATON_TRACE_ID".to_owned(), trace.to_owned());
        // What the job asked for itself has the last word.
        let context = [("TRACEPARENT", &spec.trace_parent), ("TRACESTATE", &spec.trace_state)];
        for (name, value) in context.into_iter().filter(|(_, value)| !value.is_empty()) {
            env.entry(name.to_owned()).or_insert_with(|| value.clone());
        }
    }
    env.extend(commit.map(|commit| ("BATON_SOURCE_COMMIT".to_owned(), commit)));
    env
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::shim::COOKIE;

    #[test]
    fn a_job_has_the_variables_that_the_guide_lists_and_no_others() {
        let spec = v1::JobSpec {
            trace_parent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned(),
            trace_state: "a=1".to_owned(),
            env: [("TRACESTATE".to_owned(), "own".to_owned())].into(),
            ..v1::JobSpec::default()
        };
        let token = "bj_job_1_proof".to_owned();
        let assign = v1::Assign { spec: Some(spec), token, ..v1::Assign::default() };
        let env = of_job(&assign, "c1:7700,c2:7700", Some("commit".to_owned()));
        assert_eq!((&*env[TOKEN], &*env["BATON_ADDR"]), ("bj_job_1_proof", "c1:7700,c2:7700"));
        assert_eq!(env["BATON_TRACE_ID"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(env["TRACESTATE"], "own");
        // The shim adds it, by which it finds the job's processes.
        let names: BTreeSet<&str> = env.keys().map(String::as_str).chain([COOKIE]).collect();
        let guide = include_str!("../../../docs/guide.md");
        let (_, table) = guide.split_once("| variable of a job | |\n|---|---|\n").unwrap();
        let (table, _) = table.split_once("\n\n").unwrap();
        let told = table.lines().filter_map(|line| line.split('`').nth(1));
        assert_eq!(names, told.collect());
        let without = v1::Assign { token: String::new(), ..assign };
        let env = of_job(&without, "c1:7700", None);
        assert!(!env.contains_key(TOKEN) && !env.contains_key("BATON_ADDR"));
    }
}
