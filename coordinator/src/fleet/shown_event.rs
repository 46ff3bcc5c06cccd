//! Events as people read them: one line with all that matters. Also of those that an older
//! version has recorded with less.

use std::collections::{BTreeMap, BTreeSet};

use baton_proto::{time::timestamp_from_millis, v1};
use baton_state::{
    AtDeadline, Event, EventKind, Final, HOST, Job, JobId, Outcome, RunnerId, SchedulingChange,
    State, Timestamp,
};

use crate::history::{EventId, Recorded, Subject};

/// The names of what events are about.
pub(super) struct Names<'a> {
    state: &'a State,
    /// Jobs that have ended.
    jobs: BTreeMap<JobId, &'a Job>,
}

impl<'a> Names<'a> {
    /// As the state knows them.
    pub(super) fn of(state: &'a State) -> Self {
        Self { state, jobs: BTreeMap::new() }
    }

    /// Also of the jobs that end in these events.
    pub(super) fn with(state: &'a State, events: impl Iterator<Item = &'a Event>) -> Self {
        let ended = events.filter_map(|event| match &event.kind {
            EventKind::JobFinished { job } => Some((job.id, &**job)),
            _ => None,
        });
        Self { state, jobs: ended.collect() }
    }

    fn job(&self, id: JobId) -> Option<&Job> {
        self.state.job(id).or_else(|| self.jobs.get(&id).copied())
    }

    /// The name of a runner, or its id when it is forgotten.
    fn runner(&self, id: &RunnerId) -> String {
        self.state.runner(id).map_or_else(|| id.to_string(), |it| it.facts.name.clone())
    }
}

/// Which event this is.
pub(super) fn id_of(recorded: &Recorded) -> EventId {
    match recorded {
        Recorded::Known { event, .. } => EventId::of(event),
        Recorded::Unknown { id, .. } | Recorded::Damaged { id } => *id,
    }
}

/// An event of the history.
pub(super) fn recorded(recorded: &Recorded, names: &Names<'_>) -> v1::Event {
    let id = id_of(recorded).to_string();
    match recorded {
        Recorded::Known { event, job } => shown(event, job.as_deref(), names),
        Recorded::Unknown { at, kind, job, runner, .. } => {
            let about = job.as_ref().map(|job| format!("job:{job}"));
            let about = about.or_else(|| runner.as_ref().map(|runner| format!("runner:{runner}")));
            let message = match kind.as_str() {
                "job_finished" => "ended; the record of the job is damaged".to_owned(),
                kind => kind.replace('_', " "),
            };
            let (time, subject) = (Some(time(*at)), about.unwrap_or_default());
            v1::Event { id, time, kind: kind.clone(), subject, message, ..v1::Event::default() }
        }
        Recorded::Damaged { .. } => v1::Event {
            id,
            kind: "unreadable".to_owned(),
            message: "the record of this event is damaged on the coordinator that leads; \
                      `baton cluster status` says what to do about it"
                .to_owned(),
            warning: true,
            ..v1::Event::default()
        },
    }
}

/// An event, and the job that it is about if somebody knows that better than the state.
pub(super) fn shown(event: &Event, job: Option<&Job>, names: &Names<'_>) -> v1::Event {
    let job = job.or_else(|| event.kind.job().and_then(|id| names.job(id)));
    let subject = Subject::of(&event.kind);
    let name = match &subject {
        Some(Subject::Job(_)) => job.map(|job| job.spec.name.clone()).unwrap_or_default(),
        Some(Subject::Runner(runner)) => match name_of_runner(&event.kind) {
            Some(name) => name.clone(),
            None => names.state.runner(runner).map(|it| it.facts.name.clone()).unwrap_or_default(),
        },
        Some(Subject::Member(_) | Subject::Queue(_)) | None => String::new(),
    };
    let Line { message, by, warning } = line(&event.kind, names);
    v1::Event {
        id: EventId::of(event).to_string(),
        time: Some(time(event.at)),
        kind: event.kind.name().to_owned(),
        subject: subject.map(|subject| subject.to_string()).unwrap_or_default(),
        name,
        by,
        message,
        warning,
    }
}

/// What the runner was called then.
fn name_of_runner(kind: &EventKind) -> Option<&String> {
    let (EventKind::RunnerOnline { name, .. }
    | EventKind::RunnerUnreachable { name, .. }
    | EventKind::RunnerHealth { name, .. }
    | EventKind::QuarantineLifted { name, .. }
    | EventKind::RunnerScheduling { name, .. }
    | EventKind::RunnerLabels { name, .. }
    | EventKind::RunnerRemoved { name, .. }) = kind
    else {
        return None;
    };
    Some(name).filter(|name| !name.is_empty())
}

#[derive(Default)]
struct Line {
    message: String,
    by: String,
    warning: bool,
}

impl Line {
    fn note(message: impl Into<String>) -> Self {
        Self { message: message.into(), ..Self::default() }
    }

    fn warning(message: impl Into<String>) -> Self {
        Self { message: message.into(), warning: true, ..Self::default() }
    }

    fn by(self, by: &str) -> Self {
        Self { by: by.to_owned(), ..self }
    }
}

fn line(kind: &EventKind, names: &Names<'_>) -> Line {
    match kind {
        EventKind::JobSubmitted { by, .. } => Line::note("submitted").by(by),
        EventKind::JobLeased { runner, .. } => {
            Line::note(format!("given to runner {}", names.runner(runner)))
        }
        EventKind::JobStarted { .. } => Line::note("its process has started"),
        EventKind::JobRequeued { runner, outcome, .. } => {
            let ended = ended(outcome);
            let message = format!("waits again: on runner {} it {ended}", names.runner(runner));
            Line { warning: outcome.state != Final::Cancelled, ..Line::note(message) }
        }
        EventKind::JobReady { .. } => Line::note("its next attempt may start"),
        EventKind::CancelRequested { by, .. } => Line::note("is to be cancelled").by(by),
        EventKind::JobRecalled { runner, .. } => {
            let runner = names.runner(runner);
            Line::note(format!("called back from runner {runner}, which is drained"))
        }
        EventKind::JobFinished { job } => finished(job),
        EventKind::KeyTaken { .. } => Line::note("asked about after its end"),
        EventKind::JobEvicted { .. } => Line::note("left memory"),
        EventKind::JobPriority { from, to, by, .. } => {
            Line::note(format!("priority {to} instead of {from}")).by(by)
        }
        EventKind::RunnerOnline { leaving: true, .. } => Line::note("is being stopped"),
        EventKind::RunnerOnline { version, .. } => Line::note(versioned("connected", version)),
        EventKind::RunnerUnreachable { .. } => Line::warning("does not answer any more"),
        EventKind::RunnerHealth { executor, problem, .. } => health(executor, problem.as_deref()),
        EventKind::QuarantineLifted { by, .. } => {
            Line::note("all of it may take jobs again until it fails anew").by(by)
        }
        EventKind::RunnerScheduling { change, by, .. } => {
            Line::note(scheduling(change.as_ref())).by(by)
        }
        EventKind::RunnerLabels { grant, hide, by, .. } => Line::note(labels(grant, hide)).by(by),
        EventKind::RunnerRemoved { by, .. } => Line::note("forgotten").by(by),
        EventKind::QueuePaused { queue, by } => Line::note(format!("paused: {queue}")).by(by),
        EventKind::QueueResumed { queue, by } => Line::note(format!("resumed: {queue}")).by(by),
        EventKind::MemberJoined { address, version, .. } => {
            Line::note(versioned(format!("became a member{}", at(address)), version))
        }
        EventKind::MemberChanged { address, version, .. } => {
            Line::note(versioned(format!("serves{}", at(address)), version))
        }
        EventKind::MemberRemoved { address, .. } => {
            Line::note(format!("is a member no more{}", at(address)))
        }
    }
}

fn versioned(what: impl Into<String>, version: &str) -> String {
    let what = what.into();
    if version.is_empty() { what } else { format!("{what}, version {version}") }
}

fn at(address: &str) -> String {
    if address.is_empty() { String::new() } else { format!(" at {address}") }
}

fn health(part: &str, problem: Option<&str>) -> Line {
    match (part, problem) {
        ("", _) => Line::note("a part of it works no more, or again"),
        (HOST, Some(problem)) => Line::warning(format!("takes no jobs: {problem}")),
        (HOST, None) => Line::note("takes jobs again"),
        (executor, Some(problem)) => Line::warning(format!("{executor} does not work: {problem}")),
        (executor, None) => Line::note(format!("{executor} works again")),
    }
}

fn scheduling(change: Option<&SchedulingChange>) -> String {
    let then = |then: &AtDeadline| match then {
        AtDeadline::Wait => "its jobs go on",
        AtDeadline::Requeue => "its jobs go elsewhere",
        AtDeadline::Cancel => "its jobs are cancelled",
    };
    match change {
        None => "cordoned, drained or resumed".to_owned(),
        Some(SchedulingChange::Cordoned) => "cordoned: gets no new jobs".to_owned(),
        Some(SchedulingChange::Draining { deadline: None, .. }) => {
            "drained: gets no new jobs, and those it has go on".to_owned()
        }
        Some(SchedulingChange::Draining { deadline: Some(deadline), then: end }) => {
            let time = jiff::Timestamp::from_millisecond(deadline.0.try_into().unwrap_or(i64::MAX));
            let time = time.map(|time| format!("{time:.0}")).unwrap_or_default();
            format!("drained: gets no new jobs, and at {time} {}", then(end))
        }
        Some(SchedulingChange::DeadlineOver { then: end }) => {
            format!("the deadline of its drain is over: {}", then(end))
        }
        Some(SchedulingChange::Resumed) => "resumed: gets jobs again".to_owned(),
    }
}

fn labels(grant: &BTreeSet<String>, hide: &BTreeSet<String>) -> String {
    let list = |labels: &BTreeSet<String>| match labels.len() {
        0 => "none".to_owned(),
        _ => labels.iter().map(String::as_str).collect::<Vec<_>>().join(", "),
    };
    format!("labels granted: {}; hidden: {}", list(grant), list(hide))
}

fn finished(job: &Job) -> Line {
    let Some(outcome) = job.outcome() else { return Line::note("ended") };
    let line = Line::note(ended(outcome));
    match outcome.state {
        Final::Succeeded => line,
        Final::Cancelled => {
            line.by(job.cancellation.as_ref().map_or("", |cancellation| &cancellation.by))
        }
        Final::Failed | Final::TimedOut | Final::Error | Final::Lost => {
            Line { warning: true, ..line }
        }
    }
}

/// How it ended, after "it".
fn ended(outcome: &Outcome) -> String {
    let word = match outcome.state {
        Final::Succeeded => "succeeded",
        Final::Failed => "failed",
        Final::TimedOut => "ran out of time",
        Final::Cancelled => "was cancelled",
        Final::Error => "could not be run to its end",
        Final::Lost => "was lost",
    };
    let code = outcome.exit_code.filter(|code| *code != 0).map(|code| format!("exit code {code}"));
    let message = Some(outcome.message.clone()).filter(|message| !message.is_empty());
    let reason = Some(outcome.reason.clone()).filter(|reason| !reason.is_empty());
    match message.or(code).or(reason) {
        Some(why) => format!("{word}: {why}"),
        None => word.to_owned(),
    }
}

fn time(time: Timestamp) -> prost_types::Timestamp {
    timestamp_from_millis(time.0)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn told(kind: Value) -> v1::Event {
        let kind = serde_json::from_value(kind).unwrap();
        let event = Event { index: 1, ordinal: 0, at: Timestamp(1), kind };
        shown(&event, None, &Names::of(&State::default()))
    }

    #[test]
    fn an_event_says_what_was_done_why_and_by_whom() {
        let of =
            |kind: &str| json!({ "type": kind, "runner": "r", "name": "build-1", "by": "ann" });
        let with = |kind: &str, more: Value| {
            let (mut event, Value::Object(more)) = (of(kind), more) else { panic!("no fields") };
            event.as_object_mut().unwrap().extend(more);
            told(event)
        };
        let sick = with("runner_health", json!({ "executor": "docker", "problem": "no socket" }));
        assert_eq!(sick.message, "docker does not work: no socket");
        assert_eq!((&*sick.subject, &*sick.name, sick.warning), ("runner:r", "build-1", true));
        let well = with("runner_health", json!({ "executor": "docker", "problem": null }));
        assert_eq!((&*well.message, well.warning), ("docker works again", false));
        let change = json!({ "change": SchedulingChange::Draining {
            deadline: Some(Timestamp(60_000)),
            then: AtDeadline::Cancel,
        } });
        let drained = with("runner_scheduling", change);
        let expected =
            "drained: gets no new jobs, and at 1970-01-01T00:01:00Z its jobs are cancelled";
        assert_eq!((&*drained.message, &*drained.by), (expected, "ann"));
        let labelled = with("runner_labels", json!({ "grant": ["a", "b"], "hide": [] }));
        assert_eq!(labelled.message, "labels granted: a, b; hidden: none");
    }

    #[test]
    fn what_an_older_version_has_recorded_gives_a_line_too() {
        let kinds = [
            json!({ "type": "runner_online", "runner": "r" }),
            json!({ "type": "runner_unreachable", "runner": "r" }),
            json!({ "type": "runner_health", "runner": "r" }),
            json!({ "type": "runner_scheduling", "runner": "r" }),
            json!({ "type": "runner_labels", "runner": "r" }),
            json!({ "type": "runner_removed", "runner": "r" }),
            json!({ "type": "member_joined", "node": 1 }),
            json!({ "type": "member_changed", "node": 1 }),
            json!({ "type": "member_removed", "node": 1 }),
        ];
        for kind in kinds {
            let event = told(kind.clone());
            assert!(!event.message.is_empty() && !event.subject.is_empty(), "{kind}");
        }
        let id = EventId { entry: 1, ordinal: 0 };
        let unknown = Recorded::Unknown {
            id,
            at: Timestamp(1),
            kind: "job_teleported".to_owned(),
            job: Some("j".to_owned()),
            runner: None,
        };
        let state = State::default();
        let told = |it: &Recorded| recorded(it, &Names::of(&state));
        let event = told(&unknown);
        assert_eq!((&*event.subject, &*event.message), ("job:j", "job teleported"));
        assert!(told(&Recorded::Damaged { id }).warning);
    }

    #[test]
    fn how_a_job_ended_is_said_with_the_best_reason_there_is() {
        let outcome = |state, code, reason: &str, message: &str| Outcome {
            exit_code: code,
            ..Outcome::without_process(state, reason, message)
        };
        for (outcome, expected) in [
            (outcome(Final::Succeeded, Some(0), "", ""), "succeeded"),
            (outcome(Final::Failed, Some(3), "", ""), "failed: exit code 3"),
            (outcome(Final::Lost, None, "EXPIRED", ""), "was lost: EXPIRED"),
            (outcome(Final::TimedOut, None, "TIMEOUT", "after 5 s"), "ran out of time: after 5 s"),
        ] {
            assert_eq!(ended(&outcome), expected);
        }
    }
}
