//! When each live lease was last renewed, by this leader's monotonic clock. A
//! new leader knows of no renewals and gives every lease its whole time again.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use baton_state::{JobId, Lease, State};
use tokio::time::Instant;

/// Renewals by lease.
#[derive(Default)]
pub(super) struct Leases {
    renewed: Mutex<HashMap<Lease, Instant>>,
}

impl Leases {
    /// A lease begins.
    pub(super) fn granted(&self, lease: Lease, now: Instant) {
        self.lock().insert(lease, now);
    }

    /// A runner said it holds these leases.
    pub(super) fn renewed(&self, leases: impl Iterator<Item = Lease>, now: Instant) {
        let mut renewed = self.lock();
        for lease in leases {
            // An ended lease is not in here, and must not come back.
            if let Some(time) = renewed.get_mut(&lease) {
                *time = now;
            }
        }
    }

    /// A lease has ended.
    pub(super) fn ended(&self, lease: Lease) {
        self.lock().remove(&lease);
    }

    /// The live leases that were not renewed for `ttl`, except those whose job
    /// waits for its runner. A lease seen for the first time begins now.
    pub(super) fn expired(
        &self,
        state: &State,
        ttl: Duration,
        now: Instant,
    ) -> Vec<(JobId, Lease)> {
        let mut renewed = self.lock();
        let held = state.runners().values().flat_map(|runner| &runner.leases);
        held.filter(|(lease, _)| now.duration_since(*renewed.entry(**lease).or_insert(now)) >= ttl)
            .filter(|(_, job)| state.job(**job).is_some_and(baton_state::Job::lease_may_expire))
            .map(|(lease, job)| (*job, *lease))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Lease, Instant>> {
        self.renewed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
