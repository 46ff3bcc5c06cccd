//! What runners say of their health.

use std::collections::BTreeMap;

use baton_proto::v1;
use baton_state::HOST;

use super::job::cleaned;

/// More executors than any runner has.
const EXECUTORS_MAX: usize = 1100;

/// What gets no jobs, by name, with the problem. What a runner says must not fail for
/// its wording.
pub(crate) fn unhealthy(health: &v1::Health) -> BTreeMap<String, String> {
    let host = (!health.problem.is_empty()).then(|| (HOST.to_owned(), &health.problem));
    let executors = health.executors.iter().filter(|executor| !executor.healthy);
    let executors = executors.map(|executor| (executor.name.clone(), &executor.problem));
    let all = host.into_iter().chain(executors.take(EXECUTORS_MAX));
    all.map(|(name, problem)| (cleaned(name, 128), cleaned(problem.clone(), 300))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_gets_no_jobs_is_unhealthy() {
        let executor = |name: &str, healthy, problem: &str| v1::ExecutorHealth {
            name: name.to_owned(),
            healthy,
            problem: problem.to_owned(),
            ..Default::default()
        };
        let executors = vec![executor("local", true, ""), executor("docker", false, "no\nanswer")];
        let health = v1::Health { executors, ..Default::default() };
        let unhealthy_now = unhealthy(&health);
        assert_eq!(unhealthy_now, [("docker".to_owned(), "noanswer".to_owned())].into());
        let full = v1::Health { problem: "full".to_owned(), ..Default::default() };
        assert_eq!(unhealthy(&full), [(HOST.to_owned(), "full".to_owned())].into());
    }
}
