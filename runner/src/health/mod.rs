//! What a runner finds when it looks at itself: its host, and each of its executors.
//!
//! An executor that failed three times in a row, in a check or when a job was to start,
//! gets no jobs until it succeeds once. The coordinator is told every so often, and at
//! once when that changes.

mod host;
mod stores;

pub(crate) use self::stores::Stores;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use baton_proto::{
    time::{duration_to_proto, timestamp_from_micros},
    v1,
};
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep},
};
use tracing::{info, warn};

use crate::{clock, executor::Executors};

/// Failures in a row after which an executor gets no jobs.
const FAILURES: u32 = 3;

/// How each executor is. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Health(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    executors: Mutex<BTreeMap<String, Condition>>,
    /// What the coordinator is told; none before the first look.
    report: watch::Sender<Option<v1::Health>>,
    /// Not to wait for the next look.
    look: Notify,
}

/// How one executor is.
#[derive(Clone, Debug, Default)]
struct Condition {
    /// In a row.
    failures: u32,
    problem: String,
    version: String,
    round_trip: Option<Duration>,
}

impl Condition {
    fn is_healthy(&self) -> bool {
        self.failures < FAILURES
    }
}

/// What to look at.
pub(crate) struct Checks {
    pub(crate) executors: Executors,
    /// The folder whose disk jobs need.
    pub(crate) data_dir: PathBuf,
    /// Bytes that must be free there.
    pub(crate) min_free: u64,
    pub(crate) interval: Duration,
    /// What can be removed when there is less.
    pub(crate) stores: Stores,
}

impl Health {
    /// What the coordinator is to be told, as it changes.
    pub(crate) fn reports(&self) -> watch::Receiver<Option<v1::Health>> {
        self.0.report.subscribe()
    }

    /// A job could be got ready with this executor, or could not through no fault of its
    /// own.
    pub(crate) fn note_start(&self, executor: &str, result: Result<(), &str>) {
        let mut executors = self.lock();
        // Nobody checks: there is nothing to tell either.
        let Some(condition) = executors.get_mut(executor) else { return };
        let was_healthy = condition.is_healthy();
        condition.note(result);
        let is_healthy = condition.is_healthy();
        drop(executors);
        if was_healthy != is_healthy {
            self.tell();
        }
    }

    /// Forgets that executors failed, and has all of them looked at now.
    pub(crate) fn lift(&self) {
        for condition in self.lock().values_mut() {
            condition.note(Ok(()));
        }
        info!("the quarantine of executors is lifted");
        self.tell();
        self.0.look.notify_one();
    }

    /// Has the coordinator told how the executors are, if it was told before.
    fn tell(&self) {
        self.0.report.send_modify(|report| {
            if let Some(report) = report {
                report.executors = self.executors();
            }
        });
    }

    /// Looks at everything every so often, and when the quarantine is lifted.
    pub(crate) async fn keep_checking(&self, checks: &Checks) {
        loop {
            self.check(checks).await;
            tokio::select! {
                biased;
                () = self.0.look.notified() => {}
                () = sleep(checks.interval) => {}
            }
        }
    }

    async fn check(&self, checks: &Checks) {
        let each = checks.executors.offered().into_iter().map(|(name, executor)| async move {
            let asked = Instant::now();
            let result = executor.check().await;
            (name, result, asked.elapsed())
        });
        for (name, result, round_trip) in futures::future::join_all(each).await {
            let mut executors = self.lock();
            let condition = executors.entry(name.clone()).or_default();
            let was_healthy = condition.is_healthy();
            condition.note(result.as_ref().map(drop).map_err(String::as_str));
            condition.round_trip = result.is_ok().then_some(round_trip);
            if let Ok(version) = result {
                condition.version = version;
            }
            match (was_healthy, condition.is_healthy()) {
                (true, false) => {
                    warn!(executor = name, problem = condition.problem, "it gets no jobs now");
                }
                (false, true) => info!(executor = name, "it gets jobs again"),
                _ => {}
            }
        }
        let (data_dir, stores, min_free) =
            (checks.data_dir.clone(), checks.stores.clone(), checks.min_free);
        let look = move || host::look_and_make_room(&data_dir, min_free, &stores);
        let host = tokio::task::spawn_blocking(look).await.unwrap_or_default();
        let problem = host.problem(&checks.data_dir, checks.min_free);
        self.0.report.send_replace(Some(v1::Health {
            time: Some(timestamp_from_micros(clock::wall())),
            load: host.load,
            cpus: host.cpus,
            memory_total: host.memory_total,
            memory_available: host.memory_available,
            disk_total: host.disk_total,
            disk_available: host.disk_available,
            problem: problem.unwrap_or_default(),
            executors: self.executors(),
        }));
    }

    fn executors(&self) -> Vec<v1::ExecutorHealth> {
        let executors = self.lock();
        let executor = |(name, condition): (&String, &Condition)| v1::ExecutorHealth {
            name: name.clone(),
            healthy: condition.is_healthy(),
            problem: condition.problem.clone(),
            failures: condition.failures,
            version: condition.version.clone(),
            round_trip: condition.round_trip.map(duration_to_proto),
        };
        executors.iter().map(executor).collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Condition>> {
        self.0.executors.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Condition {
    fn note(&mut self, result: Result<(), &str>) {
        match result {
            Ok(()) => {
                self.failures = 0;
                self.problem.clear();
            }
            Err(problem) => {
                self.failures = self.failures.saturating_add(1);
                problem.clone_into(&mut self.problem);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health() -> Health {
        let health = Health::default();
        health.lock().insert("docker".to_owned(), Condition::default());
        health.0.report.send_replace(Some(v1::Health::default()));
        health
    }

    #[test]
    fn three_failures_in_a_row_take_an_executor_out_and_one_success_brings_it_back() {
        let health = health();
        let reports = health.reports();
        for failure in 1..=3 {
            assert!(!reports.has_changed().unwrap(), "{failure}");
            health.note_start("docker", Err("no answer"));
        }
        let told = reports.borrow().clone().unwrap().executors;
        assert_eq!((told[0].healthy, &*told[0].problem, told[0].failures), (false, "no answer", 3));
        health.note_start("docker", Ok(()));
        let told = reports.borrow().clone().unwrap().executors;
        assert_eq!((told[0].healthy, &*told[0].problem, told[0].failures), (true, "", 0));
    }

    #[test]
    fn a_lifted_quarantine_is_told_and_lasts_until_three_more_failures() {
        let health = health();
        for _ in 0..3 {
            health.note_start("docker", Err("no answer"));
        }
        let mut reports = health.reports();
        health.lift();
        let told = reports.borrow_and_update().clone().unwrap().executors;
        assert_eq!((told[0].healthy, &*told[0].problem, told[0].failures), (true, "", 0));
        for _ in 0..2 {
            health.note_start("docker", Err("no answer"));
        }
        assert!(!reports.has_changed().unwrap());
        health.note_start("docker", Err("no answer"));
        assert!(!reports.borrow_and_update().clone().unwrap().executors[0].healthy);
    }

    #[test]
    fn a_success_between_two_failures_starts_the_count_again() {
        let health = health();
        for result in [Err("a"), Err("b"), Ok(()), Err("c"), Err("d")] {
            health.note_start("docker", result);
        }
        assert!(health.executors()[0].healthy);
        health.note_start("unknown", Err("is nobody's"));
        assert_eq!(health.executors().len(), 1);
    }
}
