//! When each live lease was last renewed, by this leader's monotonic clock. A
//! new leader knows of no renewals and gives every lease its whole time again.
//!
//! A runner must never count on a lease for longer than it is counted here. So a
//! renewal is noted before the runner is told, and a lease that was found to have
//! run out is not renewed any more, since it is being given away.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use baton_state::{JobId, Lease, State};
use tokio::time::Instant;

/// Renewals by lease; none while this node does not lead.
#[derive(Default)]
pub(super) struct Leases {
    live: Mutex<Option<HashMap<Lease, Live>>>,
}

struct Live {
    renewed: Instant,
    expired: bool,
}

impl Live {
    fn since(renewed: Instant) -> Self {
        Self { renewed, expired: false }
    }
}

impl Leases {
    /// This node leads from now on.
    pub(super) fn begin(&self) {
        *self.lock() = Some(HashMap::new());
    }

    /// It leads no more, and what is renewed elsewhere is not for it to know.
    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    /// Lets a lease begin, or go on, as of `at`; false when it has run out or is not
    /// this node's to renew. Only for a lease that is live in a state that is locked:
    /// an ended one must not come back.
    pub(super) fn renew(&self, lease: Lease, at: Instant) -> bool {
        let mut all = self.lock();
        let Some(all) = all.as_mut() else {
            return false;
        };
        let live = all.entry(lease).or_insert(Live::since(at));
        live.renewed = live.renewed.max(at);
        !live.expired
    }

    /// A lease has ended.
    pub(super) fn ended(&self, lease: Lease) {
        if let Some(all) = self.lock().as_mut() {
            all.remove(&lease);
        }
    }

    /// The live leases that were not renewed for `ttl`, except those whose job
    /// waits for its runner. A lease seen for the first time begins now.
    pub(super) fn expired(
        &self,
        state: &State,
        ttl: Duration,
        now: Instant,
    ) -> Vec<(JobId, Lease)> {
        let mut all = self.lock();
        let Some(all) = all.as_mut() else {
            return Vec::new();
        };
        let mut has_expired = |lease: Lease, job: JobId| {
            let live = all.entry(lease).or_insert(Live::since(now));
            if !live.expired && now.duration_since(live.renewed) >= ttl {
                live.expired = state.job(job).is_some_and(baton_state::Job::lease_may_expire);
            }
            live.expired
        };
        let held = state.runners().values().flat_map(|runner| &runner.leases);
        held.filter(|(lease, job)| has_expired(**lease, **job))
            .map(|(lease, job)| (*job, *lease))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Option<HashMap<Lease, Live>>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
