//! The runners that are connected now. One session per runner: a newer one
//! takes over.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use baton_proto::{error::ApiError, v1};
use baton_state::{Job, JobTokenKey, Lease, RunnerId, Timestamp};
use tokio::{sync::mpsc, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{leases::Leases, messages};

/// What goes down a session's stream. Bounded by what a runner can hold: it has
/// few slots, and each lease is told a few things.
pub(crate) type Outbound = mpsc::UnboundedSender<Result<v1::SessionResponse, ApiError>>;

#[derive(Default)]
pub(super) struct Sessions {
    live: Mutex<HashMap<RunnerId, Live>>,
}

struct Live {
    outbound: Outbound,
    replaced: CancellationToken,
    /// The newest heartbeat that came while this node certainly led, 0 for the hello.
    sequence: u64,
    heard: Instant,
    health: Option<Reported>,
}

/// What a runner said of its health.
#[derive(Clone, Debug)]
pub(crate) struct Reported {
    pub(crate) health: v1::Health,
    /// When it arrived.
    pub(crate) at: Timestamp,
}

impl Sessions {
    /// Opens a runner's session and ends the one it had. The token is
    /// cancelled when this session is replaced in turn. None when it is not the
    /// newest, as another one that was admitted later is about to be opened.
    pub(super) fn open(
        &self,
        runner: &RunnerId,
        outbound: Outbound,
        welcome: v1::SessionResponse,
        now: Instant,
        is_newest: impl FnOnce() -> bool,
    ) -> Option<CancellationToken> {
        let mut all = self.lock();
        if !is_newest() {
            return None;
        }
        // The first message, before anybody else can send one; and whoever has it knows
        // that the session before is over. The stream may be gone already; serving it
        // will show.
        let _ = outbound.send(Ok(welcome));
        let replaced = CancellationToken::new();
        let live =
            Live { outbound, replaced: replaced.clone(), sequence: 0, heard: now, health: None };
        if let Some(old) = all.insert(runner.clone(), live) {
            old.replaced.cancel();
        }
        Some(replaced)
    }

    /// Closes a session, unless another one has taken its place.
    pub(super) fn close(&self, runner: &RunnerId, outbound: &Outbound) {
        let mut live = self.lock();
        if live.get(runner).is_some_and(|live| live.outbound.same_channel(outbound)) {
            live.remove(runner);
        }
    }

    /// A heartbeat arrived over this session, and this node led after that; false
    /// when another one has taken its place.
    pub(super) fn heard(
        &self,
        runner: &RunnerId,
        outbound: &Outbound,
        sequence: u64,
        now: Instant,
    ) -> bool {
        let mut live = self.lock();
        let current = live.get_mut(runner).filter(|live| live.outbound.same_channel(outbound));
        let Some(live) = current else {
            return false;
        };
        live.sequence = live.sequence.max(sequence);
        live.heard = now;
        true
    }

    /// A runner said over this session how it is; false when another one has taken its
    /// place.
    pub(super) fn is_so(&self, runner: &RunnerId, outbound: &Outbound, health: Reported) -> bool {
        let mut live = self.lock();
        let current = live.get_mut(runner).filter(|live| live.outbound.same_channel(outbound));
        current.map(|live| live.health = Some(health)).is_some()
    }

    /// What a runner said last of its health.
    pub(super) fn health(&self, runner: &RunnerId) -> Option<Reported> {
        self.lock().get(runner)?.health.clone()
    }

    /// Whether this is the runner's session.
    pub(super) fn is_current(&self, runner: &RunnerId, outbound: &Outbound) -> bool {
        self.lock().get(runner).is_some_and(|live| live.outbound.same_channel(outbound))
    }

    pub(super) fn contains(&self, runner: &RunnerId) -> bool {
        self.lock().contains_key(runner)
    }

    /// Ends the sessions that have been silent since `before`.
    pub(super) fn drop_silent(&self, before: Instant) {
        self.lock().retain(|_, live| {
            let alive = live.heard >= before;
            if !alive {
                live.replaced.cancel();
            }
            alive
        });
    }

    /// Sends a message to a runner, if it is connected. What it misses, it
    /// learns when it connects again.
    pub(super) fn send(&self, runner: &RunnerId, message: v1::SessionResponse) {
        if let Some(live) = self.lock().get(runner) {
            // A closed stream: its session is about to end.
            let _ = live.outbound.send(Ok(message));
        }
    }

    /// Tells a runner to run a job, unless the lease has run out. The runner dates
    /// it from its newest heartbeat here, so it has to count from no earlier in
    /// `leases`, and no other heartbeat may come between. Nor may a heartbeat count
    /// that came when another node led already, which counts the lease from its own
    /// beginning.
    ///
    /// `key` makes the job's token.
    pub(super) fn assign(
        &self,
        runner: &RunnerId,
        job: &Job,
        lease: Lease,
        leases: &Leases,
        key: Option<&JobTokenKey>,
    ) {
        if let Some(live) = self.lock().get(runner)
            && leases.renew(lease, live.heard)
        {
            let _ = live.outbound.send(Ok(messages::assign(job, lease, live.sequence, key)));
        }
    }

    /// None of them counts any more; they end by themselves.
    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RunnerId, Live>> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
