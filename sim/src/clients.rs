//! Those who submit jobs, look at them and cancel some. Each call goes to some
//! coordinator and may get lost, be answered late or be refused for the moment; then it
//! is made again, elsewhere, with the same key.

use std::{sync::Arc, time::Duration};

use baton_coordinator::simulation::Coordinator;
use baton_proto::{
    error::{ApiError, Reason},
    v1,
};
use baton_state::{Job, JobId};
use tokio::time::{Instant, sleep, timeout};

use crate::{
    bugs::{Bug, Bugs},
    facts::{Facts, Rule},
    host::HostId,
    machine,
    network::{End, Network},
    registry::Registry,
};

/// How long a call may take before it is made again.
const CALL_WITHIN: Duration = Duration::from_secs(3);
/// The wait before it is.
const AGAIN_AFTER: Duration = Duration::from_millis(150);
/// How much later than it is answered a cancellation is carried out, with a bug.
const HEARD_AFTER: Duration = Duration::from_secs(2);
/// Attempts that a job gets besides those asked for, with a bug.
const GIVEN: u32 = 3;

/// What all clients share.
#[derive(Clone)]
pub struct Clients {
    /// The way to the coordinators.
    pub network: Network,
    /// Who runs.
    pub registry: Registry,
    /// What they are told.
    pub facts: Facts,
    /// What is planted.
    pub bugs: Bugs,
    /// Numbers of the coordinators there may be.
    pub coordinators: Arc<[u64]>,
}

/// One client.
pub struct Client {
    shared: Clients,
    number: u64,
    random: fastrand::Rng,
    /// Whom it asks first.
    preferred: usize,
}

/// What one job is to be.
struct Plan {
    spec: v1::JobSpec,
    /// When to cancel it, after it was accepted.
    cancel_after: Option<Duration>,
}

impl Client {
    /// A client of its own chance.
    #[must_use]
    pub fn new(shared: Clients, number: u64, random: fastrand::Rng) -> Self {
        Self { shared, number, random, preferred: 0 }
    }

    /// Submits jobs, one after the other, and sees each to its end.
    pub async fn run(mut self, jobs: u64, over: Duration) {
        let begun = Instant::now();
        for round in 0..jobs {
            let wait = over.mul_f64(self.random.f64() * 2.0 / jobs as f64);
            sleep(wait.min((begun + over).saturating_duration_since(Instant::now()))).await;
            let plan = self.plan();
            let key = format!("{}-{round}", self.number);
            self.see_through(&key, plan).await;
        }
    }

    fn plan(&mut self) -> Plan {
        let random = &mut self.random;
        let is_long = random.u32(..10) < 3;
        let millis = if is_long { random.u64(3_000..14_000) } else { random.u64(50..1_500) };
        let (lines, code) = (random.u64(0..40), i32::from(random.u32(..6) == 0));
        let on_lost =
            [v1::OnLost::Requeue, v1::OnLost::Requeue, v1::OnLost::Fail, v1::OnLost::Wait];
        let on_lost = on_lost[random.usize(..on_lost.len())];
        let cancel_after =
            (random.u32(..5) == 0).then(|| Duration::from_millis(random.u64(..millis)));
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let spec = v1::JobSpec {
            command: machine::command(millis, lines, code),
            attempts: random.u32(1..=4),
            on_lost: on_lost.into(),
            soft_timeout: seconds(20),
            timeout: seconds(25),
            ..v1::JobSpec::default()
        };
        Plan { spec, cancel_after }
    }

    async fn see_through(&mut self, key: &str, plan: Plan) {
        let Plan { spec, cancel_after } = plan;
        let Some(id) = self.submit(key, &spec, 1).await else { return };
        if self.random.u32(..4) == 0 {
            self.set_priority(key, id).await;
        }
        if self.random.u32(..30) == 0 {
            self.hold(key, id).await;
        }
        if let Some(after) = cancel_after {
            sleep(after).await;
            self.cancel(key, id).await;
        }
        loop {
            let Some(job) = self.get(id).await else { return };
            if job.is_finished() {
                break;
            }
            sleep(Duration::from_millis(self.random.u64(200..900))).await;
            if self.random.u32(..4) == 0 {
                self.look_around().await;
            }
        }
        // What has been shown once must be shown by everybody else too.
        self.get(id).await;
        if self.random.u32(..3) == 0 {
            // Sent once more by somebody who has not heard of it, at times so late that
            // the job has left the state.
            sleep(Duration::from_millis(self.random.u64(..3_000))).await;
            self.submit(key, &spec, 2).await;
        }
    }

    /// Submits a job, for the `round`th time. Whichever coordinator answers, it is the
    /// same job.
    async fn submit(&mut self, key: &str, spec: &v1::JobSpec, round: u32) -> Option<JobId> {
        let (forgets, generous) = {
            let bugs = &self.shared.bugs;
            (bugs.has(Bug::KeysAreForgotten), bugs.has(Bug::AttemptsAreGiven))
        };
        let before = self.shared.facts.lock().shown.clone();
        self.preferred = self.random.usize(..self.shared.coordinators.len());
        let mut tries = 0_u32;
        let job = self
            .call("submit", || {
                tries += 1;
                let again = if forgets { format!("{round}.{tries}") } else { String::new() };
                let (key, mut spec) = (format!("{key}#{again}"), spec.clone());
                spec.attempts += if generous { GIVEN } else { 0 };
                move |node: Coordinator| async move { node.submit(&key, spec).await }
            })
            .await?;
        let mut facts = self.shared.facts.lock();
        facts.note_submitted(key, job.id, spec.attempts);
        facts.note_shown(&job, before.get(&job.id).copied());
        Some(job.id)
    }

    async fn set_priority(&mut self, key: &str, id: JobId) {
        let (key, priority) = (format!("priority-{key}"), self.random.i32(-3..=3));
        let before = self.shared.facts.lock().shown.get(&id).copied();
        let changed = self
            .call("set priority", || {
                let key = key.clone();
                move |node: Coordinator| async move {
                    match node.set_priority(&key, id, priority).await {
                        Err(error) if error.reason == Reason::JobFinished => node.get(id).await,
                        answer => answer,
                    }
                }
            })
            .await;
        if let Some(job) = changed {
            self.shared.facts.lock().note_shown(&job, before);
        }
    }

    /// Keeps everybody's jobs waiting for a moment.
    async fn hold(&mut self, key: &str, id: JobId) {
        let (pause, resume) = (format!("pause-{key}"), format!("resume-{key}"));
        self.call("pause", || {
            let key = pause.clone();
            move |node: Coordinator| async move {
                node.pause(&key).await?;
                node.get(id).await
            }
        })
        .await;
        sleep(Duration::from_millis(self.random.u64(..500))).await;
        self.call("resume", || {
            let key = resume.clone();
            move |node: Coordinator| async move {
                node.resume(&key).await?;
                node.get(id).await
            }
        })
        .await;
    }

    async fn cancel(&mut self, key: &str, id: JobId) {
        let (key, late) = (format!("cancel-{key}"), self.shared.bugs.has(Bug::CancelIsNotHeard));
        let before = self.shared.facts.lock().shown.get(&id).copied();
        let cancelled = self
            .call("cancel", || {
                let key = key.clone();
                move |node: Coordinator| async move {
                    if !late {
                        return node.cancel(&key, id).await;
                    }
                    let answer = node.get(id).await;
                    drop(tokio::runtime::Handle::current().spawn(async move {
                        sleep(HEARD_AFTER).await;
                        node.cancel(&key, id).await
                    }));
                    answer
                }
            })
            .await;
        let Some(job) = cancelled else { return };
        let mut facts = self.shared.facts.lock();
        let lease = job.attempts.last().map(|attempt| attempt.lease);
        let now = facts.now;
        facts.cancelled.entry(id).or_insert((now, lease));
        facts.note_shown(&job, before);
    }

    /// Looks at a job of anybody's.
    async fn look_around(&mut self) {
        let known: Vec<JobId> = self.shared.facts.lock().submitted.values().copied().collect();
        if let Some(id) = self.random.choice(known) {
            self.get(id).await;
        }
    }

    /// A job that was acknowledged, as some coordinator has it.
    async fn get(&mut self, id: JobId) -> Option<Job> {
        let (stale, forgets) = {
            let bugs = &self.shared.bugs;
            (bugs.has(Bug::StaleReads), bugs.has(Bug::HistoryIsNotAsked))
        };
        let before = self.shared.facts.lock().shown.get(&id).copied();
        self.preferred = self.random.usize(..self.shared.coordinators.len());
        let job = self
            .call("get", || {
                move |node: Coordinator| async move {
                    let live = || node.raft().state().job(id).cloned();
                    if stale && let Some(job) = live() {
                        return Ok(job);
                    }
                    let job = node.get(id).await?;
                    if forgets && live().is_none() {
                        return Err(ApiError::new(Reason::JobNotFound, "it is not known here", ""));
                    }
                    Ok(job)
                }
            })
            .await?;
        self.shared.facts.lock().note_shown(&job, before);
        Some(job)
    }

    /// Makes a call until it is answered; none when the answer is one that must not be.
    async fn call<S, F>(&mut self, name: &'static str, mut make: impl FnMut() -> S) -> Option<Job>
    where
        S: FnOnce(Coordinator) -> F + Send + 'static,
        F: Future<Output = Result<Job, ApiError>> + Send + 'static,
    {
        loop {
            let all = &self.shared.coordinators;
            let to = HostId::Coordinator(all[self.preferred % all.len()]);
            let (registry, serve) = (self.shared.registry.clone(), make());
            let accept = move |end: End<Result<Job, ApiError>, ()>| {
                registry.on(to, |node| async move {
                    let answer = serve(node).await;
                    let label = match &answer {
                        Ok(job) => format!("{name} {}", job.id),
                        Err(error) => format!("{name} {}", error.reason.as_str()),
                    };
                    end.sender.send(label, answer);
                });
            };
            let mut end = self.shared.network.call::<(), _>(HostId::Clients, to, name, accept);
            match timeout(CALL_WITHIN, end.receiver.next()).await {
                Ok(Ok(Some(Ok(job)))) => {
                    self.shared.facts.lock().answered += 1;
                    return Some(job);
                }
                Ok(Ok(Some(Err(error)))) if !may_pass(&error) => {
                    let mut facts = self.shared.facts.lock();
                    facts.breach(Rule::Refused, format!("{name} was refused: {error}"));
                    return None;
                }
                _ => {}
            }
            self.preferred += 1;
            let jitter = self.random.u64(..100);
            sleep(AGAIN_AFTER + Duration::from_millis(jitter)).await;
        }
    }
}

/// Whether another try, here or elsewhere, may be answered otherwise.
fn may_pass(error: &ApiError) -> bool {
    // What a coordinator says whose disk has just failed, before it ends.
    error.reason.is_temporary() || error.reason == Reason::Internal
}
