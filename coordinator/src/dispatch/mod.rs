//! Gives queued jobs to runners, and takes leases away from runners that are
//! gone. Only the leader does this.
//!
//! What lives here is in memory: sessions, heartbeats, when each lease was last
//! renewed. All of it is of one term: a new leader, also one that led before, knows of
//! none and begins anew. Every decision becomes a command and is checked again in
//! the state.

mod checks;
mod dispatcher;
mod leases;
mod matching;
mod messages;
mod places;
mod session;
mod sessions;
#[cfg(test)]
mod tests;
mod timing;

use std::sync::Arc;

use baton_proto::v1;
use baton_state::{Command, Event, EventKind, Index, Lease, Runner, RunnerId, State};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub(crate) use self::sessions::Reported;
pub use self::timing::{Timing, TimingError};
use self::{checks::Checks, leases::Leases, places::Places, sessions::Sessions};
use crate::{
    contents::Contents,
    convert::runner_to_proto,
    environment::Environment,
    leadership::Leadership,
    raft::{Observer, RaftHandle},
};

/// What the parts of the dispatcher share.
pub(crate) struct Shared {
    sessions: Sessions,
    places: Places,
    leases: Leases,
    checks: Checks,
    /// The term in which sessions are served now; cancelled when it is over.
    term: watch::Sender<Option<CancellationToken>>,
    wake: Notify,
    timing: Timing,
    environment: Environment,
}

/// Watches the state for what the dispatcher must act on. Exists before the
/// Raft node does, since the node tells it of every entry.
#[derive(Clone)]
pub struct DispatchObserver(Arc<Shared>);

impl DispatchObserver {
    /// An observer for a dispatcher that starts later.
    #[must_use]
    pub fn new(timing: Timing, environment: Environment) -> Self {
        Self(Arc::new(Shared {
            sessions: Sessions::default(),
            places: Places::default(),
            leases: Leases::default(),
            checks: Checks::default(),
            term: watch::Sender::new(None),
            wake: Notify::new(),
            timing,
            environment,
        }))
    }
}

impl Shared {
    /// This node leads from now on.
    fn begin_term(&self) {
        self.end_term();
        self.leases.begin();
        self.term.send_replace(Some(CancellationToken::new()));
    }

    /// It leads no more: whatever it knows of runners becomes untrue. What a session
    /// still does until it has ended is gone again when the next term begins.
    fn end_term(&self) {
        if let Some(term) = self.term.send_replace(None) {
            term.cancel();
        }
        self.leases.end();
        self.sessions.clear();
        self.places.clear();
        self.checks.clear();
    }
}

impl Observer for DispatchObserver {
    fn applied(&self, _through: Index, state: &State, events: &[Event]) {
        for event in events {
            match &event.kind {
                EventKind::JobLeased { job, lease, runner } => {
                    self.0.leases.renew(*lease, Instant::now());
                    if let Some(job) = state.job(*job) {
                        let key = state.job_token_key();
                        self.0.sessions.assign(runner, job, *lease, &self.0.leases, key);
                    }
                }
                EventKind::CancelRequested { job, lease, runner, .. } => {
                    let stop = messages::stop(*job, *lease, v1::StopReason::Cancelled);
                    self.0.sessions.send(runner, stop);
                }
                EventKind::JobRecalled { job, lease, runner } => {
                    let stop = messages::stop(*job, *lease, v1::StopReason::Recalled);
                    self.0.sessions.send(runner, stop);
                }
                EventKind::JobRequeued { lease, .. } => {
                    self.0.leases.ended(*lease);
                    self.0.wake.notify_one();
                }
                EventKind::JobFinished { job } => {
                    for attempt in &job.attempts {
                        self.0.leases.ended(attempt.lease);
                    }
                    self.0.wake.notify_one();
                }
                EventKind::QuarantineLifted { runner, .. } => {
                    self.0.sessions.send(runner, messages::lift());
                }
                EventKind::RunnerRemoved { runner, .. } => {
                    self.0.places.forget(runner);
                    self.0.checks.forget(runner);
                }
                EventKind::JobSubmitted { .. }
                | EventKind::JobReady { .. }
                | EventKind::RunnerOnline { .. }
                | EventKind::RunnerHealth { .. }
                | EventKind::RunnerScheduling { .. }
                | EventKind::RunnerLabels { .. }
                | EventKind::QueueResumed { .. } => self.0.wake.notify_one(),
                EventKind::JobStarted { .. }
                | EventKind::KeyTaken { .. }
                | EventKind::JobEvicted { .. }
                | EventKind::JobPriority { .. }
                | EventKind::QueuePaused { .. }
                | EventKind::RunnerUnreachable { .. }
                | EventKind::MemberJoined { .. }
                | EventKind::MemberChanged { .. }
                | EventKind::MemberRemoved { .. } => {}
            }
        }
    }
}

/// The running dispatcher. Cheap to clone.
#[derive(Clone)]
pub struct Dispatch {
    shared: Arc<Shared>,
    raft: RaftHandle,
    contents: Contents,
    leadership: Leadership,
}

impl Dispatch {
    /// Starts the dispatcher's loop on `tasks`; it ends when `stop` is cancelled.
    #[must_use]
    pub(crate) fn start(
        observer: &DispatchObserver,
        raft: RaftHandle,
        contents: Contents,
        leadership: Leadership,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Self {
        let dispatch = Self { shared: Arc::clone(&observer.0), raft, contents, leadership };
        tasks.spawn(dispatcher::run(dispatch.clone(), stop));
        dispatch
    }

    /// When this leader last heard from a runner, whether it has a session or not.
    #[must_use]
    pub fn last_heard(&self, runner: &RunnerId) -> Option<baton_state::Timestamp> {
        self.shared.places.last_heard(runner)
    }

    /// What a runner said last of its health, over the session that it has here.
    fn reported(&self, runner: &RunnerId) -> Option<Reported> {
        self.shared.sessions.health(runner)
    }

    /// A runner as the API shows it.
    pub(crate) fn shown(&self, state: &State, runner: &Runner) -> v1::Runner {
        let id = &runner.facts.id;
        runner_to_proto(state, runner, self.last_heard(id), self.reported(id))
    }

    /// A runner has a session here, over which it can be told something.
    pub(crate) fn has_session(&self, runner: &RunnerId) -> bool {
        self.shared.sessions.contains(runner)
    }

    /// What a runner said of its health in the last hour, oldest first, as far as this node
    /// led.
    pub(crate) fn checks(&self, runner: &RunnerId) -> Vec<v1::Health> {
        self.shared.checks.of(runner, Instant::now())
    }

    /// Proposes a command about a lease; what the state refuses is no failure
    /// here, since the lease may have ended meanwhile.
    async fn propose_about(&self, lease: Lease, command: Command) {
        if let Err(error) = self.raft.propose(command).await {
            tracing::debug!(%lease, %error, "not carried out");
        }
    }
}
