//! Why does a job wait? Answered from the same facts that matching uses.

use crate::{
    ids::{JobId, Timestamp},
    job::{Job, Phase},
    queue::Place,
    runner::{Connection, Runner},
    spec::{Executor, Requirements},
    state::State,
};

/// How far places in a queue are counted.
pub const AHEAD_LIMIT: usize = 1_000;

/// Why a queued job has not started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// A stable word.
    pub reason: WaitReason,
    /// One line for people.
    pub message: String,
    /// Jobs of the same requirements before it, counted up to [`AHEAD_LIMIT`].
    pub ahead: usize,
}

/// What a queued job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    /// No runner has ever registered.
    NoRunner,
    /// No runner has the executor, or knows the SSH target.
    NoRunnerWithExecutor,
    /// No runner that has the executor has the labels.
    NoRunnerWithLabels,
    /// Those that have them are of a version that does not know what the job asks for.
    RunnersTooOld,
    /// Those that have them don't answer.
    RunnersUnreachable,
    /// Those that answer take no more jobs: they are cordoned, drained, or leave.
    RunnersCordoned,
    /// On those that answer, what the job needs does not work.
    ExecutorUnhealthy,
    /// All their slots are taken.
    SlotsBusy,
    /// Slots are free, for the jobs before it.
    BehindOthers,
    /// Somebody paused its queue.
    QueuePaused,
    /// Its last attempt failed; the next one starts later.
    Backoff,
    /// It is about to start.
    Starting,
}

impl WaitReason {
    /// The stable word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRunner => "NO_RUNNER",
            Self::NoRunnerWithExecutor => "NO_RUNNER_WITH_EXECUTOR",
            Self::NoRunnerWithLabels => "NO_RUNNER_WITH_LABELS",
            Self::RunnersTooOld => "RUNNERS_TOO_OLD",
            Self::RunnersUnreachable => "RUNNERS_UNREACHABLE",
            Self::RunnersCordoned => "RUNNERS_CORDONED",
            Self::ExecutorUnhealthy => "EXECUTOR_UNHEALTHY",
            Self::SlotsBusy => "SLOTS_BUSY",
            Self::BehindOthers => "BEHIND_OTHERS",
            Self::QueuePaused => "QUEUE_PAUSED",
            Self::Backoff => "BACKOFF",
            Self::Starting => "STARTING",
        }
    }
}

/// Why this job waits; `None` when it doesn't.
#[must_use]
pub fn explain(state: &State, id: JobId, now: Timestamp) -> Option<Waiting> {
    let job = state.job(id)?;
    let Phase::Queued { not_before } = job.phase else {
        return None;
    };
    if let Some(pause) = state.pause_of(&job.spec.project, &job.spec.requirements) {
        let time = in_words(now.0.saturating_sub(pause.since.0));
        let message = format!("{} paused its queue {time} ago", pause.by);
        return Some(Waiting { reason: WaitReason::QueuePaused, message, ahead: 0 });
    }
    if let Some(time) = not_before {
        let seconds = time.0.saturating_sub(now.0).div_ceil(1000);
        let message = format!(
            "attempt {} of {} failed; the next one starts in {seconds} s",
            job.attempts_used(),
            job.spec.attempts
        );
        return Some(Waiting { reason: WaitReason::Backoff, message, ahead: 0 });
    }
    let ahead = ahead(state, job);
    let (reason, message) = blocker(state, job, ahead);
    Some(Waiting { reason, message, ahead })
}

fn ahead(state: &State, job: &Job) -> usize {
    let requirements = &job.spec.requirements;
    let queues = state.queues().of(requirements);
    let taken = queues.filter(|(project, _)| state.pause_of(project, requirements).is_none());
    let before = taken.flat_map(|(_, queue)| queue.ready().range(..Place::of(job)));
    before.take(AHEAD_LIMIT).count()
}

fn blocker(state: &State, job: &Job, ahead: usize) -> (WaitReason, String) {
    if state.runners().is_empty() {
        return (WaitReason::NoRunner, "no runner has registered yet".to_owned());
    }
    let requirements = &job.spec.requirements;
    let suited: Vec<&Runner> =
        state.runners().values().filter(|runner| runner.offers(requirements)).collect();
    if suited.is_empty() {
        return unsuited(state, requirements);
    }
    let online: Vec<&Runner> =
        suited.iter().copied().filter(|runner| runner.connection == Connection::Online).collect();
    if online.is_empty() {
        let message = format!("unreachable: {}", names(&suited));
        return (WaitReason::RunnersUnreachable, message);
    }
    let (online, closed): (Vec<_>, Vec<_>) =
        online.into_iter().partition(|runner| runner.takes_jobs());
    if online.is_empty() {
        return (WaitReason::RunnersCordoned, cordoned(&closed));
    }
    let ailments = online.iter().map(|runner| runner.ailment(requirements));
    if let Some(ailments) = ailments.collect::<Option<Vec<_>>>()
        && let Some((name, problem)) = ailments.first()
    {
        let message = format!("{name} of {} does not work: {problem}", names(&online));
        return (WaitReason::ExecutorUnhealthy, message);
    }
    let online: Vec<&Runner> =
        online.into_iter().filter(|runner| runner.ailment(requirements).is_none()).collect();
    let free: usize = online.iter().map(|runner| runner.free_for(requirements)).sum();
    if free == 0 {
        let message = format!("{}; {}", taken(&online, &requirements.executor), before(ahead));
        return (WaitReason::SlotsBusy, message);
    }
    if ahead >= free {
        let message = format!("{}; free slots: {free}", before(ahead));
        return (WaitReason::BehindOthers, message);
    }
    (WaitReason::Starting, "it is about to start".to_owned())
}

/// Why none of these runners takes a job.
fn cordoned(closed: &[&Runner]) -> String {
    let (cordoned, draining): (Vec<_>, Vec<_>) = closed
        .iter()
        .partition(|runner| runner.cordon.as_ref().is_some_and(|it| it.drain.is_none()));
    let groups = [("cordoned", cordoned), ("draining", draining)];
    let told = groups.iter().filter(|(_, runners)| !runners.is_empty());
    let told: Vec<_> = told.map(|(word, runners)| format!("{word}: {}", names(runners))).collect();
    told.join("; ")
}

/// So many milliseconds in the largest unit that they fill.
fn in_words(millis: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min")];
    let filled = UNITS.iter().find(|(unit, _)| millis >= *unit);
    let (unit, name) = filled.unwrap_or(&(1000, "s"));
    format!("{} {name}", millis / unit)
}

fn before(ahead: usize) -> String {
    match ahead {
        0 => "this job is the next".to_owned(),
        1 => "1 job is before this one".to_owned(),
        AHEAD_LIMIT => format!("{AHEAD_LIMIT} jobs or more are before this one"),
        more => format!("{more} jobs are before this one"),
    }
}

/// Which slots are taken.
fn taken(online: &[&Runner], executor: &Executor) -> String {
    let of_target = |target: &String| {
        let slots = |runner: &&Runner| Some(runner.facts.executors.targets.get(target)?.slots);
        (online.iter().all(|runner| runner.free_on_target(target) == 0))
            .then(|| (format!("SSH target {target}"), online.iter().filter_map(slots).sum()))
    };
    let (whose, slots) = match executor {
        Executor::Local | Executor::Docker => None,
        Executor::Ssh(target) => of_target(target),
    }
    .unwrap_or_else(|| (names(online), online.iter().map(|runner| runner.facts.slots).sum()));
    match slots {
        1 => format!("the only slot of {whose} is taken"),
        _ => format!("all {slots} slots of {whose} are taken"),
    }
}

/// What no runner has; of labels, which the runner lacks that comes closest.
fn unsuited(state: &State, requirements: &Requirements) -> (WaitReason, String) {
    let able =
        state.runners().values().filter(|it| it.facts.executors.have(&requirements.executor));
    let old: Vec<&Runner> =
        able.clone().filter(|runner| runner.missing(requirements).is_empty()).collect();
    if !old.is_empty() {
        let message = format!(
            "no runner with these labels is of a version that knows what the job asks for; \
             upgrade: {}",
            names(&old)
        );
        return (WaitReason::RunnersTooOld, message);
    }
    let Some(runner) = able.min_by_key(|runner| runner.missing(requirements).len()) else {
        let message = format!("no runner has {} in its settings", requirements.executor);
        return (WaitReason::NoRunnerWithExecutor, message);
    };
    let missing: Vec<&str> = runner.missing(requirements).into_iter().collect();
    let message = format!(
        "no runner has all labels of: {requirements}; the closest, {}, lacks: {}",
        runner.facts.name,
        missing.join(", ")
    );
    (WaitReason::NoRunnerWithLabels, message)
}

/// Up to three names, and how many more there are.
fn names(runners: &[&Runner]) -> String {
    let shown: Vec<&str> =
        runners.iter().take(3).map(|runner| runner.facts.name.as_str()).collect();
    let more = runners.len().saturating_sub(shown.len());
    let shown = shown.join(", ");
    if more == 0 { shown } else { format!("{shown} and {more} more") }
}
