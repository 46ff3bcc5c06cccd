//! What runners found when they looked at themselves, for an hour. Encoded, as they came: most
//! is never asked for, and a thousand runners say something twice a minute.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use baton_proto::v1;
use baton_state::RunnerId;
use prost::Message as _;
use tokio::time::Instant;

/// How long a check is kept.
const KEPT_FOR: Duration = Duration::from_secs(3600);
/// Bytes that are kept of one runner: of one with many executors, less than an hour.
const BYTES_MAX: usize = 64 * 1024;
/// What a check takes beside its own bytes.
const OVERHEAD: usize = 64;

#[derive(Default)]
pub(super) struct Checks(Mutex<HashMap<RunnerId, Kept>>);

#[derive(Default)]
struct Kept {
    /// Oldest first.
    checks: VecDeque<(Instant, Box<[u8]>)>,
    bytes: usize,
}

impl Kept {
    /// Leaves out what is too old or too much.
    fn trim(&mut self, now: Instant) {
        while let Some((at, check)) = self.checks.front()
            && (self.bytes > BYTES_MAX || now.duration_since(*at) > KEPT_FOR)
        {
            self.bytes -= check.len() + OVERHEAD;
            self.checks.pop_front();
        }
    }
}

impl Checks {
    /// Keeps an encoded [`v1::Health`].
    pub(super) fn add(&self, runner: &RunnerId, check: Vec<u8>, now: Instant) {
        let mut all = self.lock();
        let kept = all.entry(runner.clone()).or_default();
        kept.bytes += check.len() + OVERHEAD;
        kept.checks.push_back((now, check.into_boxed_slice()));
        kept.trim(now);
    }

    /// Those of a runner, oldest first.
    pub(super) fn of(&self, runner: &RunnerId, now: Instant) -> Vec<v1::Health> {
        let mut all = self.lock();
        let Some(kept) = all.get_mut(runner) else { return Vec::new() };
        kept.trim(now);
        let checks = kept.checks.iter();
        checks.filter_map(|(_, check)| v1::Health::decode(&**check).ok()).collect()
    }

    pub(super) fn forget(&self, runner: &RunnerId) {
        self.lock().remove(runner);
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunnerId, Kept>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a runner with Docker says it.
    fn health(load: f64) -> v1::Health {
        let executor = |name: &str, version: &str| v1::ExecutorHealth {
            name: name.to_owned(),
            healthy: true,
            version: version.to_owned(),
            round_trip: Some(prost_types::Duration { seconds: 0, nanos: 12_345_678 }),
            ..Default::default()
        };
        v1::Health {
            time: Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 123_456_000 }),
            load,
            cpus: 64,
            memory_total: 1 << 38,
            memory_available: (1 << 37) + 12_345,
            disk_total: 1 << 42,
            disk_available: (1 << 41) + 54_321,
            problem: String::new(),
            executors: vec![executor("docker", "28.3.2"), executor("local", "")],
        }
    }

    fn add(checks: &Checks, runner: &RunnerId, health: &v1::Health, now: Instant) {
        checks.add(runner, health.encode_to_vec(), now);
    }

    #[tokio::test]
    async fn the_checks_of_an_hour_are_kept_in_order_and_small() {
        let (checks, runner) = (Checks::default(), RunnerId("r".to_owned()));
        let begun = Instant::now();
        let time = |number: u32| begun + Duration::from_secs(30) * number;
        for number in 0..200_u32 {
            add(&checks, &runner, &health(number.into()), time(number));
        }
        let loads = |now| -> Vec<f64> {
            checks.of(&runner, now).iter().map(|health| health.load).collect()
        };
        let expected: Vec<f64> = (79..200_u32).map(f64::from).collect();
        assert_eq!(loads(time(199)), expected);
        assert_eq!(checks.of(&runner, time(199))[0], health(79.0));
        let size = {
            let all = checks.lock();
            let kept = &all[&runner];
            kept.bytes + kept.checks.capacity() * size_of::<(Instant, Box<[u8]>)>()
        };
        assert!(size < 30_000, "an hour of a thousand runners would take {size} kB");
        assert_eq!(loads(time(400)), [] as [f64; 0]);
        checks.forget(&runner);
        assert!(checks.lock().is_empty());
    }

    #[tokio::test]
    async fn a_runner_that_says_much_has_fewer_kept() {
        let (checks, runner) = (Checks::default(), RunnerId("r".to_owned()));
        let now = Instant::now();
        let long = v1::Health { problem: "x".repeat(10_000), ..health(1.0) };
        for _ in 0..20 {
            add(&checks, &runner, &long, now);
        }
        assert_eq!(checks.of(&runner, now).len(), 6);
        let longer = v1::Health { problem: "x".repeat(BYTES_MAX), ..health(1.0) };
        add(&checks, &runner, &longer, now);
        assert!(checks.of(&runner, now).is_empty());
    }
}
