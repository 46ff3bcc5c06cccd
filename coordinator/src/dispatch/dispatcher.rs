//! The dispatcher's loop: grants when something changed, and looks at the clock. It
//! begins anew with each term in which this node leads.

use std::{collections::HashMap, time::Duration};

use baton_state::{
    Command, Connection, JobId, JobTokenKey, Level, RunnerId,
    command::{Grant, LoseLease, LossCause, MarkUnreachable, SetJobTokenKey, Tick},
};
use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, join_all},
    stream::FuturesUnordered,
};
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{
    Dispatch,
    matching::{self, InFlight},
};
use crate::{environment::Environment, leadership::Leadership};

/// Grants under way at once.
const IN_FLIGHT: usize = 512;

/// How often the clock is looked at.
const CHECK_EVERY: Duration = Duration::from_millis(250);

pub(super) async fn run(dispatch: Dispatch, stop: CancellationToken) {
    let mut leadership = dispatch.leadership.clone();
    stop.run_until_cancelled(async {
        loop {
            let term = leadership.here().await;
            info!(term, "this coordinator leads");
            dispatch.shared.begin_term();
            Dispatcher::new(dispatch.clone()).run(&mut leadership, term).await;
            dispatch.shared.end_term();
            info!(term, "this coordinator leads no more");
        }
    })
    .await;
}

/// The dispatcher of one term.
pub(super) struct Dispatcher {
    dispatch: Dispatch,
    in_flight: InFlight,
    grants: FuturesUnordered<BoxFuture<'static, JobId>>,
    /// Runners that count as online and have no session, and since when.
    unseen: HashMap<RunnerId, Instant>,
}

impl Dispatcher {
    pub(super) fn new(dispatch: Dispatch) -> Self {
        Self {
            dispatch,
            in_flight: InFlight::default(),
            grants: FuturesUnordered::new(),
            unseen: HashMap::new(),
        }
    }

    /// Works until the term is over. What it has proposed about leases is decided
    /// when this returns: nothing of it comes between the renewals of a later term.
    async fn run(&mut self, leadership: &mut Leadership, term: u64) {
        let mut checks = tokio::time::interval(CHECK_EVERY);
        checks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let dispatch = self.dispatch.clone();
        // Before the first grant, whose job would have no token.
        dispatch.give_job_token_key().await;
        loop {
            tokio::select! {
                biased;
                () = leadership.over(term) => return,
                () = dispatch.shared.wake.notified() => {}
                Some(job) = self.grants.next(), if !self.grants.is_empty() => {
                    self.in_flight.end(job);
                    // Many grants are applied together; take them together.
                    while let Some(Some(job)) = self.grants.next().now_or_never() {
                        self.in_flight.end(job);
                    }
                }
                _ = checks.tick() => self.check_clock().await,
            }
            self.grant();
        }
    }

    /// Proposes the next grants.
    fn grant(&mut self) {
        let room = IN_FLIGHT.saturating_sub(self.in_flight.len());
        let sessions = &self.dispatch.shared.sessions;
        let has_session = |runner: &RunnerId| sessions.contains(runner);
        let matches =
            matching::matches(&self.dispatch.raft.state(), has_session, &self.in_flight, room);
        let at = self.dispatch.shared.environment.clock.now();
        for (job, runner) in matches {
            self.in_flight.begin(job, runner.clone());
            let raft = self.dispatch.raft.clone();
            let command = Command::Grant(Grant { job, runner: runner.clone(), at });
            self.grants.push(
                async move {
                    if let Err(error) = raft.propose(command).await {
                        debug!(%job, %runner, %error, "not granted");
                    }
                    job
                }
                .boxed(),
            );
        }
    }

    /// Everything that happens because time has passed.
    async fn check_clock(&mut self) {
        let now = Instant::now();
        let timing = self.dispatch.shared.timing;
        if let Some(before) = now.checked_sub(timing.unreachable_after) {
            self.dispatch.shared.sessions.drop_silent(before);
        }
        self.mark_unreachable(now).await;
        self.dispatch.expire_leases(now).await;
        self.dispatch.tick().await;
        self.dispatch.give_job_token_key().await;
    }

    pub(super) async fn mark_unreachable(&mut self, now: Instant) {
        let sessions = &self.dispatch.shared.sessions;
        let without: Vec<RunnerId> = {
            let state = self.dispatch.raft.state();
            let online = state.runners().iter().filter(|(_, r)| r.connection == Connection::Online);
            online.map(|(id, _)| id).filter(|id| !sessions.contains(id)).cloned().collect()
        };
        self.unseen.retain(|runner, _| without.contains(runner));
        let timing = self.dispatch.shared.timing;
        let gone: Vec<RunnerId> = without
            .into_iter()
            .filter(|runner| {
                let since = *self.unseen.entry(runner.clone()).or_insert(now);
                now.duration_since(since) >= timing.unreachable_after
            })
            .collect();
        let at = self.dispatch.shared.environment.clock.now();
        let dispatch = &self.dispatch;
        join_all(gone.into_iter().map(async |runner| {
            warn!(%runner, "runner is unreachable");
            let command = Command::MarkUnreachable(MarkUnreachable { runner: runner.clone(), at });
            if let Err(error) = dispatch.raft.propose(command).await {
                debug!(%error, "not marked");
            }
            dispatch.put_right(&runner).await;
        }))
        .await;
    }
}

impl Dispatch {
    /// A runner may have come back while it was being marked as unreachable.
    async fn put_right(&self, runner: &RunnerId) {
        let facts = self.raft.state().runner(runner).map(|runner| runner.facts.clone());
        if let Some(facts) = facts.filter(|_| self.shared.sessions.contains(runner))
            && let Err(error) = self.keep_online(&facts).await
        {
            debug!(%runner, %error, "not put right; its next heartbeat does it");
        }
    }

    async fn expire_leases(&self, now: Instant) {
        let shared = &self.shared;
        let expired = shared.leases.expired(&self.raft.state(), shared.timing.lease_ttl, now);
        let at = shared.environment.clock.now();
        join_all(expired.into_iter().map(async |(job, lease)| {
            warn!(%job, %lease, "lease expired");
            let cause = LossCause::Expired;
            let command = Command::LoseLease(LoseLease { job, lease, at, cause });
            self.propose_about(lease, command).await;
        }))
        .await;
    }

    /// Draws what the tokens of jobs are made with, once every member knows of it.
    async fn give_job_token_key(&self) {
        {
            let state = self.raft.state();
            if state.job_token_key().is_some() || state.level() < Level(3) {
                return;
            }
        }
        let Environment { clock, random, .. } = &self.shared.environment;
        let halves = [random.bits(), random.bits()].map(u128::to_le_bytes);
        let mut bytes = [0; 32];
        bytes.copy_from_slice(halves.as_flattened());
        let set = SetJobTokenKey { key: JobTokenKey::new(bytes), at: clock.now() };
        if let Err(error) = self.raft.propose(Command::SetJobTokenKey(set)).await {
            debug!(%error, "jobs have no tokens yet");
        }
    }

    async fn tick(&self) {
        let at = self.shared.environment.clock.now();
        let due = self.raft.state().next_due();
        if due.is_some_and(|due| due <= at)
            && let Err(error) = self.raft.propose(Command::Tick(Tick { at })).await
        {
            debug!(%error, "time not told");
        }
    }
}
