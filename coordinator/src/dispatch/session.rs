//! One runner's session: hello, then what it holds goes up and what it should
//! do goes down. Level-triggered: each heartbeat is compared with the state as
//! a whole, so a message lost with a broken stream is made good by the next one.

use std::{collections::BTreeSet, time::Duration};

use baton_proto::{
    error::{ApiError, Reason},
    time::millis_from_timestamp,
    v1::{self, session_request::Item, session_response::Item as SessionItem},
};
use baton_state::{
    ArtifactTree, Command, Connection, Executors, Final, JobId, Lease, Level, LogEnd, Outcome,
    Phase, Refusal, RunnerFacts, RunnerId, Timestamp, Tree,
    command::{Finish, LoseLease, LossCause, RegisterRunner, RemoveRunner, SetHealth, Start},
};
use futures::{
    FutureExt as _, Stream, StreamExt as _, future::BoxFuture, stream::FuturesUnordered,
};
use prost::Message as _;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Dispatch, messages,
    places::{self, Admitted, Arrival, Place},
    sessions::{Outbound, Reported},
};
use crate::{
    convert,
    errors::{from_propose, no_leader, stopping},
    files::FileName,
    raft::ProposeError,
};

/// Reports under way at once; the runner's further ones wait in its stream.
const PENDING: usize = 1024;

/// Leases a runner can name: more than it can have slots, since settled ones stay a while.
const HELD: usize = 10_000;

/// How long a runner waits here for a leader.
const LEADER_WITHIN: Duration = Duration::from_secs(5);

/// How long a session that ends with its term waits to hear who leads now.
const NEW_LEADER_WITHIN: Duration = Duration::from_secs(1);

/// How long a stream may stay silent before its hello.
const HELLO_WITHIN: Duration = Duration::from_secs(10);

/// What a proposal of a session led to: something to tell the runner.
type Report = BoxFuture<'static, Result<Option<v1::SessionResponse>, ApiError>>;

type Pending = FuturesUnordered<Report>;

impl Dispatch {
    /// Serves one session until the runner leaves, is replaced, or `stop`. While
    /// another coordinator leads, the runner is told where.
    ///
    /// # Errors
    /// What to tell the runner as the stream's last word.
    pub(crate) async fn serve_session<S, E>(
        self,
        inbound: S,
        outbound: Outbound,
        stop: CancellationToken,
    ) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<v1::SessionRequest, E>> + Send,
    {
        let term = stop.run_until_cancelled(self.term(&outbound)).await;
        let Some(term) = term.ok_or_else(stopping)?? else {
            return Ok(());
        };
        match self.serve_in(term, inbound, &outbound, stop).await {
            Err(error) if error.reason == Reason::NoLeader => {
                let leader = timeout(NEW_LEADER_WITHIN, self.leadership.clone().elsewhere()).await;
                redirect(leader.map_err(|_| error)?, &outbound);
                Ok(())
            }
            result => result,
        }
    }

    /// The term to serve a session in; none if the runner was told who leads instead.
    async fn term(&self, outbound: &Outbound) -> Result<Option<CancellationToken>, ApiError> {
        let (mut leadership, mut terms) = (self.leadership.clone(), self.shared.term.subscribe());
        let begun = terms.wait_for(Option::is_some);
        tokio::select! {
            biased;
            term = timeout(LEADER_WITHIN, begun) => match term {
                Ok(Ok(term)) => Ok(term.clone()),
                Ok(Err(_)) | Err(_) => Err(no_leader()),
            },
            leader = leadership.elsewhere() => {
                redirect(leader, outbound);
                Ok(None)
            }
        }
    }

    async fn serve_in<S, E>(
        &self,
        term: CancellationToken,
        inbound: S,
        outbound: &Outbound,
        stop: CancellationToken,
    ) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<v1::SessionRequest, E>> + Send,
    {
        let mut inbound = std::pin::pin!(inbound);
        let hello = match timeout(HELLO_WITHIN, inbound.next()).await {
            Ok(Some(Ok(v1::SessionRequest { item: Some(Item::Hello(hello)) }))) => hello,
            Ok(None | Some(Err(_))) => return Ok(()),
            Ok(Some(Ok(_))) | Err(_) => {
                return Err(convert::invalid("session", "must begin with a hello"));
            }
        };
        let mut facts = facts(&hello)?;
        let level = facts.level;
        self.fit(&mut facts)?;
        check_held(&hello.held)?;
        let runner = facts.id.clone();
        let opened = self.open(&facts, hello.connect, &hello.held, outbound).await;
        // What is open and not served would keep the runner from being given up.
        let replaced = opened.inspect_err(|_| self.shared.sessions.close(&runner, outbound))?;
        info!(%runner, name = hello.name, slots = hello.slots, "runner connected");
        let session = Session { dispatch: self.clone(), facts, level, outbound: outbound.clone() };
        let result = tokio::select! {
            // Nothing counts that is still said after one of these.
            biased;
            () = term.cancelled() => Err(no_leader()),
            () = replaced.cancelled() => Err(places::replaced()),
            () = stop.cancelled() => Err(stopping()),
            result = session.serve(inbound) => result,
        };
        self.shared.sessions.close(&runner, outbound);
        info!(%runner, "runner disconnected");
        result
    }

    /// Leaves out what not every coordinator knows yet.
    fn fit(&self, facts: &mut RunnerFacts) -> Result<(), ApiError> {
        let level = self.raft.state().level();
        if facts.ephemeral && facts.level() > level {
            return Err(ApiError::new(
                Reason::VersionTooOld,
                "not every coordinator knows of ephemeral runners yet",
                "install this version of Baton on every coordinator",
            ));
        }
        facts.leaving &= facts.level() <= level;
        if facts.level() > level {
            facts.level = RunnerFacts::UNSAID;
        }
        if facts.level() > level {
            warn!(runner = %facts.id, "not every coordinator knows executors besides local yet");
            facts.executors = Executors::default();
        }
        Ok(())
    }

    async fn open(
        &self,
        facts: &RunnerFacts,
        connect: u64,
        held: &[v1::HeldLease],
        outbound: &Outbound,
    ) -> Result<CancellationToken, ApiError> {
        let (shared, runner) = (&self.shared, &facts.id);
        let at = shared.environment.clock.now();
        let arrival = Arrival { place: Place::of(facts), connect, at, now: Instant::now() };
        self.admit(facts, &arrival)?;
        self.give_up_elsewhere(facts, held).await?;
        self.register(facts.clone(), at).await?;
        let is_newest = || shared.places.is_newest(runner, &arrival);
        let welcome = messages::welcome(&shared.timing);
        let now = Instant::now();
        let opened = shared.sessions.open(runner, outbound.clone(), welcome, now, is_newest);
        let replaced = opened.ok_or_else(places::replaced)?;
        self.keep_online(facts).await?;
        // A hello may have been on its way for long: what it lacks may run by now.
        // Only a heartbeat is the word of a runner that is there.
        self.reconcile(runner, held, outbound);
        shared.wake.notify_one();
        Ok(replaced)
    }

    /// One runner id is one data folder on one host: a copy is refused.
    fn admit(&self, facts: &RunnerFacts, arrival: &Arrival) -> Result<(), ApiError> {
        let runner = &facts.id;
        let known = self.raft.state().runner(runner).and_then(Place::known);
        let ttl = self.shared.timing.lease_ttl;
        match self.shared.places.admit(runner, arrival, known, ttl) {
            Ok(Admitted::Here) => Ok(()),
            Ok(Admitted::Moved) => {
                warn!(%runner, name = facts.name, "the runner has another data folder or host now");
                Ok(())
            }
            Err(conflict) => {
                let error = conflict.error(runner);
                warn!(%runner, name = facts.name, %error, "a session is refused");
                Err(error)
            }
        }
    }

    async fn register(&self, facts: RunnerFacts, at: Timestamp) -> Result<(), ApiError> {
        let command = Command::RegisterRunner(RegisterRunner { facts, at });
        self.raft.propose(command).await.map(drop).map_err(from_propose)
    }

    /// A runner with a session may have been marked as unreachable just before
    /// that opened, or begin to leave, or have said what every coordinator knows only
    /// now. Whoever opens one asks afterwards, and so does whoever marked.
    pub(super) async fn keep_online(&self, facts: &RunnerFacts) -> Result<(), ApiError> {
        let online = {
            let state = self.raft.state();
            let runner = state.runner(&facts.id);
            runner.is_some_and(|runner| {
                runner.connection == Connection::Online
                    && runner.facts.leaving == facts.leaving
                    && runner.facts.level == facts.level
            })
        };
        if online {
            return Ok(());
        }
        let at = self.shared.environment.clock.now();
        self.register(facts.clone(), at).await
    }

    /// What a runner held in another place and does not report in this one is lost,
    /// even if it was not seen to start. The first place was silent for the time to
    /// live, so that only a job that waits for its runner can still run there; that
    /// one is not started again. Nothing proves that it is gone, also if the boot is
    /// another one: a cloned host looks like one that has restarted.
    async fn give_up_elsewhere(
        &self,
        facts: &RunnerFacts,
        held: &[v1::HeldLease],
    ) -> Result<(), ApiError> {
        let held: BTreeSet<u64> = held.iter().map(|held| held.lease).collect();
        let lost: Vec<(Lease, JobId)> = {
            let state = self.raft.state();
            // By the state, so that a session that broke before it was registered
            // leaves nothing undone.
            let known = state.runner(&facts.id);
            let moved = known.filter(|known| Place::of(&known.facts) != Place::of(facts));
            let leases = moved.into_iter().flat_map(|runner| &runner.leases);
            leases
                .filter(|(lease, _)| !held.contains(&lease.0))
                .map(|(lease, job)| (*lease, *job))
                .collect()
        };
        for (lease, job) in lost {
            self.not_held(job, lease).await?;
        }
        Ok(())
    }

    async fn not_held(&self, job: JobId, lease: Lease) -> Result<(), ApiError> {
        warn!(%job, %lease, "the runner does not have the job; its lease is lost");
        let at = self.shared.environment.clock.now();
        let command = LoseLease { job, lease, at, cause: LossCause::NotHeld };
        match self.raft.propose(Command::LoseLease(command)).await {
            // Refused: it has ended meanwhile.
            Ok(_) | Err(ProposeError::Refused(_)) => Ok(()),
            Err(error) => Err(from_propose(error)),
        }
    }

    /// Compares what a runner holds with what it should hold, and tells it the
    /// difference.
    fn reconcile(
        &self,
        runner: &RunnerId,
        held: &[v1::HeldLease],
        outbound: &Outbound,
    ) -> Difference {
        let mut difference = self.difference(runner, held);
        for message in difference.messages.drain(..) {
            // The stream may be gone already; serving it will show.
            let _ = outbound.send(Ok(message));
        }
        difference
    }

    fn difference(&self, runner: &RunnerId, held: &[v1::HeldLease]) -> Difference {
        let (mut difference, leases) = (Difference::default(), &self.shared.leases);
        let state = self.raft.state();
        let Some(runner) = state.runner(runner) else {
            return difference;
        };
        let now = Instant::now();
        let reported: BTreeSet<Lease> = held.iter().map(|held| Lease(held.lease)).collect();
        for (lease, id) in &runner.leases {
            let Some(job) = state.job(*id) else {
                continue;
            };
            if reported.contains(lease) {
                difference.has_expired |= !leases.renew(*lease, now);
                let reason = match job.cancellation {
                    Some(_) => Some(v1::StopReason::Cancelled),
                    None => job.is_recalled().then_some(v1::StopReason::Recalled),
                };
                let stop = reason.map(|reason| messages::stop(*id, *lease, reason));
                difference.messages.extend(stop);
            } else if job.phase == Phase::Running {
                difference.missing.push((*id, *lease));
            } else {
                let key = state.job_token_key();
                self.shared.sessions.assign(&runner.facts.id, job, *lease, leases, key);
            }
        }
        for held in held {
            let lease = Lease(held.lease);
            if !runner.leases.contains_key(&lease)
                && let Ok(job) = held.job_id.parse()
            {
                let stop = messages::stop(job, lease, v1::StopReason::LeaseLost);
                difference.messages.push(stop);
            }
        }
        difference
    }
}

/// Sends a runner on to the leader.
fn redirect(leader: String, outbound: &Outbound) {
    // It may have left.
    let _ = outbound.send(Ok(messages::redirect(leader)));
}

/// What a runner holds against what it should hold.
#[derive(Default)]
struct Difference {
    messages: Vec<v1::SessionResponse>,
    /// Leases of jobs that were started and are not held any more.
    missing: Vec<(JobId, Lease)>,
    /// Among what it holds is a lease that is being given away.
    has_expired: bool,
}

struct Session {
    dispatch: Dispatch,
    facts: RunnerFacts,
    /// What it said at its hello, which not every coordinator may have known then.
    level: Level,
    outbound: Outbound,
}

impl Session {
    async fn serve<S, E>(&self, mut inbound: std::pin::Pin<&mut S>) -> Result<(), ApiError>
    where
        S: Stream<Item = Result<v1::SessionRequest, E>>,
    {
        let mut pending = Pending::new();
        loop {
            tokio::select! {
                biased;
                Some(done) = pending.next(), if !pending.is_empty() => {
                    if let Some(message) = done? {
                        let _ = self.outbound.send(Ok(message));
                    }
                }
                request = inbound.next(), if pending.len() < PENDING => match request {
                    Some(Ok(v1::SessionRequest { item: Some(Item::Goodbye(_)) })) => {
                        return self.forget().await;
                    }
                    Some(Ok(v1::SessionRequest { item: Some(item) })) => {
                        self.take(item, &mut pending).await?;
                    }
                    // A kind of message this version does not know.
                    Some(Ok(v1::SessionRequest { item: None })) => {}
                    Some(Err(_)) | None => return Ok(()),
                },
            }
        }
    }

    async fn take(&self, item: Item, pending: &mut Pending) -> Result<(), ApiError> {
        match item {
            Item::Hello(_) | Item::Goodbye(_) => Err(convert::invalid("hello", "must come once")),
            Item::Heartbeat(heartbeat) => self.heartbeat(&heartbeat).await,
            Item::Health(health) => self.health(health).await,
            Item::Started(started) => {
                let named = (started.job_id.clone(), started.lease);
                self.queue(self.started(&started), named, pending);
                Ok(())
            }
            Item::Finished(finished) => {
                let named = (finished.job_id.clone(), finished.lease);
                self.queue(self.finished(finished), named, pending);
                Ok(())
            }
        }
    }

    /// A report that cannot be taken must not end the session, which it would
    /// again and again: the runner forgets that attempt instead.
    fn queue(&self, report: Result<Report, ApiError>, named: (String, u64), pending: &mut Pending) {
        match report {
            Ok(report) => pending.push(report),
            Err(error) => {
                let (job_id, lease) = named;
                warn!(runner = %self.facts.id, job_id, lease, %error, "report not taken");
                let reason = v1::StopReason::LeaseLost.into();
                let stop = v1::Stop { job_id, lease, reason };
                let _ = self.outbound.send(Ok(messages::message(SessionItem::Stop(stop))));
            }
        }
    }

    async fn heartbeat(&self, heartbeat: &v1::Heartbeat) -> Result<(), ApiError> {
        let (shared, runner) = (&self.dispatch.shared, &self.facts.id);
        check_held(&heartbeat.held)?;
        // A leader that was stopped or cut off for a while may have a successor, which
        // has its own time for each lease: it must not renew any. Led it after the
        // heartbeat was sent, every successor begins to count later than the runner.
        self.dispatch.raft.read_barrier().await.map_err(from_propose)?;
        let at = shared.environment.clock.now();
        let sequence = heartbeat.sequence;
        if !shared.sessions.heard(runner, &self.outbound, sequence, Instant::now()) {
            // Replaced: the newer session speaks for the runner.
            return Ok(());
        }
        shared.places.heard(runner, at, Instant::now());
        let (leaving, level) = (heartbeat.leaving, self.level);
        let mut facts = RunnerFacts { leaving, level, ..self.facts.clone() };
        self.dispatch.fit(&mut facts)?;
        self.dispatch.keep_online(&facts).await?;
        if !shared.sessions.is_current(runner, &self.outbound) {
            return Ok(());
        }
        let difference = self.dispatch.reconcile(runner, &heartbeat.held, &self.outbound);
        for (job, lease) in difference.missing {
            if !shared.sessions.is_current(runner, &self.outbound) {
                return Ok(());
            }
            self.dispatch.not_held(job, lease).await?;
        }
        // It would renew at the runner everything that the heartbeat named. The next
        // one is answered, when the lease that has run out is gone.
        if !difference.has_expired {
            let spent = {
                let state = self.dispatch.raft.state();
                let runner = state.runner(runner);
                runner.is_some_and(|runner| runner.is_spent() && runner.leases.is_empty())
            };
            let _ = self.outbound.send(Ok(messages::heartbeat_ack(sequence, spent)));
        }
        Ok(())
    }

    /// The runner is ephemeral, had its job and has given up its id.
    async fn forget(&self) -> Result<(), ApiError> {
        let raft = &self.dispatch.raft;
        let history_seen = raft.state().evicted_at();
        let at = self.dispatch.shared.environment.clock.now();
        let runner = self.facts.id.clone();
        let (request, by) = (None, String::new());
        let command = RemoveRunner { runner, at, request, history_seen, left: true, by };
        match raft.propose(Command::RemoveRunner(command)).await {
            // Refused: it was removed before, or has no reason to say goodbye.
            Ok(_) | Err(ProposeError::Refused(_)) => Ok(()),
            Err(error) => Err(from_propose(error)),
        }
    }

    /// Keeps what the runner says of its health. Only what gets no jobs any more, or
    /// gets some again, is for all coordinators.
    async fn health(&self, health: v1::Health) -> Result<(), ApiError> {
        let (shared, runner) = (&self.dispatch.shared, &self.facts.id);
        let at = shared.environment.clock.now();
        let (unhealthy, check) = (convert::unhealthy(&health), health.encode_to_vec());
        if !shared.sessions.is_so(runner, &self.outbound, Reported { health, at }) {
            return Ok(());
        }
        shared.checks.add(runner, check, Instant::now());
        let (known, level) = {
            let state = self.dispatch.raft.state();
            let known = state.runner(runner).map(|runner| runner.unhealthy.clone());
            (known.unwrap_or_default(), state.level())
        };
        let is_news = !known.iter().map(|(name, it)| (name, &it.problem)).eq(&unhealthy);
        let command = Command::SetHealth(SetHealth { runner: runner.clone(), unhealthy, at });
        if !is_news || command.level() > level {
            return Ok(());
        }
        match self.dispatch.raft.propose(command).await {
            // Refused: it was removed.
            Ok(_) | Err(ProposeError::Refused(_)) => Ok(()),
            Err(error) => Err(from_propose(error)),
        }
    }

    /// A lease is its runner's alone, whoever else has learned its number.
    fn check_holds(&self, lease: Lease) -> Result<(), ApiError> {
        let state = self.dispatch.raft.state();
        let runner = state.runner(&self.facts.id);
        if runner.is_some_and(|runner| runner.leases.contains_key(&lease)) {
            return Ok(());
        }
        Err(ApiError::new(
            Reason::StaleLease,
            format!("lease {lease} is not this runner's"),
            "stop the attempt and forget it",
        ))
    }

    fn started(&self, started: &v1::Started) -> Result<Report, ApiError> {
        let job = job_id(&started.job_id)?;
        let lease = Lease(started.lease);
        self.check_holds(lease)?;
        let at = self.dispatch.shared.environment.clock.now();
        let started_at = started.time.as_ref().map_or(at, time);
        let command = Command::Start(Start { job, lease, at, started_at });
        let dispatch = self.dispatch.clone();
        Ok(async move { dispatch.report(job, lease, command, None).await }.boxed())
    }

    fn finished(&self, finished: v1::Finished) -> Result<Report, ApiError> {
        let job = job_id(&finished.job_id)?;
        let lease = Lease(finished.lease);
        self.check_holds(lease)?;
        let at = self.dispatch.shared.environment.clock.now();
        let outcome = finished.outcome.ok_or_else(|| convert::invalid("outcome", "is missing"))?;
        let mut finish = Finish {
            job,
            lease,
            at,
            started_at: finished.started_at.as_ref().map(time),
            finished_at: finished.time.as_ref().map_or(at, time),
            outcome: convert::outcome_from_proto(outcome)?,
            log: None,
            transient: finished.transient,
            artifacts: None,
        };
        let level = self.dispatch.raft.state().level();
        if finish.outcome.level() > level {
            // While a cluster has members that do not know of them.
            finish.outcome.outputs.clear();
        }
        if finish.outcome.level() > level {
            // Of a job that asked for none: whoever asks needs the same level.
            finish.outcome.limits.clear();
        }
        let dispatch = self.dispatch.clone();
        let report = async move {
            if let Some(log) = finished.log {
                finish.log = dispatch.whole_log(job, lease, log).await;
            }
            if let Some(artifacts) = finished.artifacts {
                finish.artifacts = dispatch.stored(job, lease, artifacts).await?;
                if finish.artifacts.is_none() {
                    without_artifacts(&mut finish.outcome);
                }
            }
            let done = Some(messages::settled(job, lease));
            dispatch.report(job, lease, Command::Finish(finish), done).await
        };
        Ok(report.boxed())
    }
}

impl Dispatch {
    /// The output that a runner says is whole, if it is.
    async fn whole_log(&self, job: JobId, lease: Lease, log: v1::LogEnd) -> Option<LogEnd> {
        let name = FileName::Log { job, lease };
        let looked_at = self.contents.replication.has_whole(name, log.file_length).await;
        let whole = looked_at.unwrap_or_else(|error| {
            warn!(%job, %lease, %error, "cannot look at the output");
            false
        });
        if !whole {
            warn!(%job, %lease, "the output is reported whole and is not");
        }
        whole.then(|| convert::log_end_from_proto(log))
    }

    /// The artifacts that a runner says are stored, if they are: all of them, on a majority.
    async fn stored(
        &self,
        job: JobId,
        lease: Lease,
        artifacts: v1::ArtifactTree,
    ) -> Result<Option<ArtifactTree>, ApiError> {
        let artifacts = convert::tree_from_proto(artifacts);
        let ArtifactTree { digest, size, content, .. } = artifacts.clone();
        match self.contents.check_tree(&Tree { digest, size, content }).await {
            Ok(()) => Ok(Some(artifacts)),
            Err(error)
                if matches!(error.reason, Reason::SourceNotUploaded | Reason::InvalidArgument) =>
            {
                warn!(%job, %lease, %error, "the artifacts are reported stored and are not");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Proposes what a runner reported; `done` is for it when that is recorded.
    async fn report(
        &self,
        job: JobId,
        lease: Lease,
        command: Command,
        done: Option<v1::SessionResponse>,
    ) -> Result<Option<v1::SessionResponse>, ApiError> {
        match self.raft.propose(command).await {
            Ok(_) => Ok(done),
            Err(ProposeError::Refused(Refusal::StaleLease(_) | Refusal::UnknownJob(_))) => {
                Ok(Some(messages::stop(job, lease, v1::StopReason::LeaseLost)))
            }
            Err(error) => Err(from_propose(error)),
        }
    }
}

/// A job whose artifacts are gone must not look fine.
fn without_artifacts(outcome: &mut Outcome) {
    if outcome.state == Final::Succeeded {
        outcome.state = Final::Error;
        outcome.reason = "ARTIFACTS".to_owned();
    }
    outcome.message.push_str("; its artifacts are not stored");
}

fn facts(hello: &v1::Hello) -> Result<RunnerFacts, ApiError> {
    let id = &hello.runner_id;
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if id.is_empty() || id.len() > 64 || !id.bytes().all(allowed) {
        return Err(convert::invalid("runner_id", "must be 1 to 64 letters, digits and '-'"));
    }
    if hello.name.is_empty() {
        return Err(convert::invalid("name", "must not be empty"));
    }
    convert::check_text("name", &hello.name, 64)?;
    convert::check_text("version", &hello.version, 64)?;
    convert::check_text("boot_id", &hello.boot_id, 64)?;
    convert::check_text("place", &hello.place, 64)?;
    if hello.boot_id.is_empty() || hello.place.is_empty() {
        // Without them, nobody could tell it from a copy.
        return Err(convert::invalid("place", "and boot_id are needed: update the runner"));
    }
    if hello.connect == 0 {
        // Without it, nobody could tell which of two sessions is the newer one.
        return Err(convert::invalid("connect", "is needed: update the runner"));
    }
    if !(1..=1000).contains(&hello.slots) {
        return Err(convert::invalid("slots", "must be from 1 to 1000"));
    }
    Ok(RunnerFacts {
        id: RunnerId(id.clone()),
        name: hello.name.clone(),
        labels: convert::labels(&hello.labels)?,
        slots: hello.slots,
        version: hello.version.clone(),
        boot_id: hello.boot_id.clone(),
        place: hello.place.clone(),
        executors: convert::executors_from_proto(hello.executors.as_ref())?,
        ephemeral: hello.ephemeral,
        leaving: hello.leaving,
        level: Level(hello.level).max(RunnerFacts::UNSAID),
    })
}

fn check_held(held: &[v1::HeldLease]) -> Result<(), ApiError> {
    if held.len() > HELD {
        return Err(convert::invalid("held", format!("must be at most {HELD} leases")));
    }
    Ok(())
}

fn job_id(text: &str) -> Result<JobId, ApiError> {
    text.parse().map_err(|error| convert::invalid("job_id", error))
}

fn time(time: &prost_types::Timestamp) -> Timestamp {
    Timestamp(millis_from_timestamp(time))
}
