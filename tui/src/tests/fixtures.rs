//! Fleets to look at: one with nothing in it, an ordinary one, and one with too much of everything,
//! whose names are hostile.

use std::time::Duration;

use baton_proto::v1::{
    Alert, AlertLevel, ArtifactTree, AtDeadline, Attempt, Cancellation, ClusterMember, Event,
    EventChanges, ExecutorHealth, Health, Job, JobChanges, JobSpec, JobState, JobSummary,
    ListQueuesResponse, LogEnd, LogPiece, LogStream, MemberStatus, Members, Outcome, Overview,
    Paused, Queue, QueueName, Runner, RunnerChanges, RunnerLease, RunnerState, Scheduling,
    SchedulingState, Throughput, Unhealthy, Waiting, WatchFleetResponse, WhoAmIResponse,
};
use crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use jiff::{Timestamp, tz::TimeZone};

use crate::{
    event::{Event as Input, Intent, News},
    keys::{Action, KeyMap},
    log::messages::{Answer, Request},
    model::{Model, Settings},
    theme::Palette,
    time::{Now, to_proto},
    update::update,
};

/// How full a fleet is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fleet {
    Empty,
    Typical,
    Overloaded,
}

const HOSTILE: &str =
    "\x1b[2J\u{202e}evil\u{9b}31m\r\nname 日本語 \u{200b}that is far too long for any column";

pub(super) fn start() -> Timestamp {
    "2026-03-05T10:00:00Z".parse().unwrap()
}

pub(super) fn at(seconds: u64) -> Now {
    let elapsed = Duration::from_secs(seconds);
    Now { elapsed, wall: start() + elapsed }
}

fn ago(seconds: i64) -> Option<prost_types::Timestamp> {
    Some(to_proto(start() - jiff::SignedDuration::from_secs(seconds)))
}

pub(super) fn settings(screen: &str, argument: &str) -> Settings {
    Settings {
        palette: Palette::Dark,
        ascii: false,
        local_zone: TimeZone::UTC,
        utc: true,
        read_only: false,
        keys: KeyMap::default(),
        screen: (screen.to_owned(), argument.to_owned()),
        seed: "seed".to_owned(),
    }
}

/// Who may do everything.
pub(super) fn admin() -> WhoAmIResponse {
    let methods = Action::ALL.iter().filter_map(|action| action.method()).map(str::to_owned);
    WhoAmIResponse { name: "admin".to_owned(), methods: methods.collect() }
}

/// A console that shows a screen of a fleet.
pub(super) fn console(settings: Settings, size: (u16, u16), fleet: Fleet) -> Model {
    let mut model = Model::new(settings, size, at(0)).unwrap();
    send(&mut model, Input::WhoAmI(admin()), 0);
    tell(&mut model, fleet, 0);
    model
}

pub(super) fn send(model: &mut Model, input: Input, second: u64) -> Vec<Intent> {
    update(model, input, at(second))
}

/// Tells what the present watch has to say.
pub(super) fn learn(model: &mut Model, news: News, second: u64) {
    let number = model.generation;
    send(model, Input::News(number, news), second);
}

/// Tells all that the screen wants to know.
pub(super) fn tell(model: &mut Model, fleet: Fleet, second: u64) {
    let wants = model.screen().wants();
    for news in news(fleet, wants.job.is_some(), wants.checks.is_some()) {
        let number = model.generation;
        let intents = send(model, Input::News(number, news), second);
        tell_log(model, fleet, intents, second);
    }
}

/// Tells what the log asks for.
pub(super) fn tell_log(model: &mut Model, fleet: Fleet, mut intents: Vec<Intent>, second: u64) {
    while let Some(intent) = intents.pop() {
        if let Intent::Log(log, asked) = intent {
            for answer in log_answers(fleet, &asked.request) {
                intents.extend(send(model, Input::Log(log, asked.number, answer), second));
            }
        }
    }
}

/// A log that is short, or has no end and is hostile.
fn log_answers(fleet: Fleet, request: &Request) -> Vec<Answer> {
    let piece = |stream: LogStream, text: &str| LogPiece {
        stream: stream.into(),
        data: text.to_owned().into(),
        time: ago(70),
        ..LogPiece::default()
    };
    let typical = [
        piece(LogStream::Stdout, "\x1b[32m   Compiling\x1b[0m web v0.1.0\n"),
        piece(LogStream::Stdout, "\x1b[32m     Running\x1b[0m tests/unit.rs\n"),
        piece(LogStream::Stderr, "thread 'main' panicked at tests/unit.rs:7: 2 is not 3\n"),
        piece(LogStream::Stdout, "test sums ... \x1b[31mFAILED\x1b[0m\n"),
    ];
    let line = format!("{HOSTILE}\x1b[31m {}\n", "all work and no play ".repeat(20));
    let (offset, pieces) = match fleet {
        Fleet::Empty => (0, Vec::new()),
        Fleet::Typical => (0, typical.to_vec()),
        Fleet::Overloaded => (1 << 30, vec![piece(LogStream::Stderr, &line.repeat(99))]),
    };
    let length = offset + pieces.iter().map(|piece| piece.data.len() as u64).sum::<u64>();
    match request {
        Request::Follow(_) => vec![
            Answer::Began { offset, length },
            Answer::Output { offset, pieces },
            Answer::Ended(None),
        ],
        Request::Search { .. } => vec![Answer::NotFound],
        _ => Vec::new(),
    }
}

pub(super) fn news(fleet: Fleet, job: bool, checks: bool) -> Vec<News> {
    let mut news = vec![News::Fleet(Box::new(answer(fleet)))];
    if job && fleet != Fleet::Empty {
        let waits = Waiting {
            reason: "SLOTS_BUSY".to_owned(),
            message: "all 48 slots of the 12 runners with label gpu are busy".to_owned(),
            ahead: 17,
        };
        let waiting = (fleet == Fleet::Overloaded).then_some(waits);
        news.push(News::Job(Box::new(whole_job(fleet)), waiting));
        news.push(News::Artifacts(vec![("report/index.html".to_owned(), 12_345)]));
    }
    if checks && fleet != Fleet::Empty {
        let checks = (0..40).rev().map(|at| health(at, at % 7 == 3));
        news.push(News::Checks(checks.collect()));
    }
    news
}

/// Presses keys one after the other: each is a word, such as "j", "ctrl-d" or "enter"; one that
/// begins with `'` is typed as text.
pub(super) fn press(model: &mut Model, keys: &str) -> Vec<Intent> {
    let mut intents = Vec::new();
    for word in keys.split(' ') {
        if let Some(text) = word.strip_prefix('\'') {
            for c in text.chars() {
                let c = if c == '_' { ' ' } else { c };
                intents.extend(key(model, KeyCode::Char(c), KeyModifiers::NONE));
            }
            continue;
        }
        let (modifiers, name) = match word.strip_prefix("ctrl-") {
            Some(rest) => (KeyModifiers::CONTROL, rest),
            None => (KeyModifiers::NONE, word),
        };
        let code = match name {
            "enter" => KeyCode::Enter,
            "esc" => KeyCode::Esc,
            "tab" => KeyCode::Tab,
            "space" => KeyCode::Char(' '),
            "backspace" => KeyCode::Backspace,
            name => KeyCode::Char(name.chars().next().unwrap()),
        };
        intents.extend(key(model, code, modifiers));
    }
    intents
}

fn key(model: &mut Model, code: KeyCode, modifiers: KeyModifiers) -> Vec<Intent> {
    let second = model.now.elapsed.as_secs();
    send(model, Input::Key(KeyEvent::new(code, modifiers)), second)
}

pub(super) fn answer(fleet: Fleet) -> WatchFleetResponse {
    WatchFleetResponse {
        time: ago(0),
        overview: Some(overview(fleet)),
        queues: Some(queues(fleet)),
        jobs: Some(JobChanges { reset: true, changed: jobs(fleet), gone: Vec::new() }),
        runners: Some(RunnerChanges { reset: true, changed: runners(fleet), gone: Vec::new() }),
        members: Some(members(fleet)),
        events: Some(EventChanges { reset: true, events: events(fleet) }),
    }
}

fn overview(fleet: Fleet) -> Overview {
    let alert = |level: AlertLevel, subject: &str, message: &str, since| Alert {
        level: level.into(),
        subject: subject.to_owned(),
        message: message.to_owned(),
        since: ago(since),
    };
    let typical = Overview {
        cluster_id: "01JNCLUSTER0000000000000AB".to_owned(),
        leader_id: 2,
        term: 7,
        queued: 12,
        running: 5,
        oldest_queued: ago(192),
        runners_online: 3,
        runners_unreachable: 1,
        slots: 16,
        slots_used: 5,
        throughput: (0..60)
            .map(|at| Throughput { ended: at % 9 * 3, failed: at % 20 / 19 })
            .collect(),
        alerts: vec![
            alert(AlertLevel::Critical, "runner:r3", "runner build-3 is unreachable", 700),
            alert(
                AlertLevel::Warning,
                "queue:web",
                "12 jobs of web wait for longer than 3 min",
                190,
            ),
        ],
        dead_letters: 2,
        version: "0.1.0".to_owned(),
    };
    match fleet {
        Fleet::Empty => Overview {
            oldest_queued: None,
            alerts: Vec::new(),
            throughput: Vec::new(),
            queued: 0,
            running: 0,
            runners_online: 0,
            runners_unreachable: 0,
            slots: 0,
            slots_used: 0,
            dead_letters: 0,
            ..typical
        },
        Fleet::Typical => typical,
        Fleet::Overloaded => Overview {
            queued: 104_233,
            running: 9_999,
            oldest_queued: ago(3 * 86_400),
            runners_online: 990,
            runners_unreachable: 10,
            slots: 10_000,
            slots_used: 9_999,
            dead_letters: 12_345,
            throughput: (0..60)
                .map(|at| Throughput { ended: 4_000 + at * 7, failed: 900 })
                .collect(),
            alerts: (0..40)
                .map(|at| alert(AlertLevel::Critical, &format!("job:{at}"), HOSTILE, 90_000 + at))
                .collect(),
            ..typical
        },
    }
}

fn queues(fleet: Fleet) -> ListQueuesResponse {
    let queue =
        |project: &str, labels: &[&str], executor: &str, queued, paused: Option<&str>| Queue {
            name: Some(QueueName {
                project: project.to_owned(),
                labels: labels.iter().map(|&label| label.to_owned()).collect(),
                executor: executor.to_owned(),
            }),
            queued,
            running: 3,
            oldest_queued: (queued > 0).then(|| ago(192)).flatten(),
            started_per_minute: 4,
            runners: u64::from(project != "ml") * 3,
            paused: paused.map(|by| Paused { by: by.to_owned(), since: ago(65) }),
        };
    let queues = match fleet {
        Fleet::Empty => Vec::new(),
        Fleet::Typical => vec![
            queue("web", &[], "docker", 8, None),
            queue("ml", &["gpu", "os=linux"], "", 4, None),
            queue("docs", &[], "ssh:press", 0, Some("ada")),
        ],
        Fleet::Overloaded => (0..100)
            .map(|at| queue(&format!("{HOSTILE}{at}"), &[HOSTILE], "docker", 100_000 - at, None))
            .collect(),
    };
    ListQueuesResponse { queues, more: u64::from(fleet == Fleet::Overloaded) * 234 }
}

const TYPICAL_STATES: [JobState; 9] = [
    JobState::Queued,
    JobState::Running,
    JobState::Leased,
    JobState::Failed,
    JobState::Succeeded,
    JobState::Cancelled,
    JobState::TimedOut,
    JobState::Lost,
    JobState::Error,
];

pub(super) fn job_id(number: usize) -> String {
    format!("01JNABCDEF{number:016}")
}

fn jobs(fleet: Fleet) -> Vec<JobSummary> {
    let job = |number: usize, name: &str, state: JobState| {
        let at = i64::try_from(number).unwrap();
        let ended = !matches!(state, JobState::Queued | JobState::Leased | JobState::Running);
        let started = ended || state == JobState::Running;
        JobSummary {
            id: job_id(1_000_000 - number),
            name: name.to_owned(),
            project: ["web", "ml", "docs"][number % 3].to_owned(),
            state: state.into(),
            labels: vec!["gpu".to_owned()],
            executor: "docker".to_owned(),
            priority: if number == 0 { 10 } else { 0 },
            submitted_at: ago(at * 37 + 5),
            submitted_by: "ada".to_owned(),
            started_at: if started { ago(at * 37 + 3) } else { None },
            finished_at: if ended { ago(at * 37) } else { None },
            runner_name: if started { "build-1".to_owned() } else { String::new() },
            attempts: 1 + u32::from(state == JobState::Lost),
            exit_code: (state == JobState::Failed).then_some(2),
            reason: if state == JobState::TimedOut {
                "HARD_TIMEOUT".to_owned()
            } else {
                String::new()
            },
            dead_letter: state == JobState::Lost,
            cancelling: false,
        }
    };
    let names = ["unit tests", "lint", "build docs", "train model", "deploy"];
    match fleet {
        Fleet::Empty => Vec::new(),
        Fleet::Typical => {
            (0..9).map(|number| job(number, names[number % 5], TYPICAL_STATES[number])).collect()
        }
        Fleet::Overloaded => (0..200)
            .map(|number| JobSummary {
                project: HOSTILE.to_owned(),
                runner_name: HOSTILE.to_owned(),
                reason: HOSTILE.to_owned(),
                cancelling: number % 2 == 0,
                ..job(number, HOSTILE, TYPICAL_STATES[number % 9])
            })
            .collect(),
    }
}

fn whole_job(fleet: Fleet) -> Job {
    let hard = fleet == Fleet::Overloaded;
    let text = |text: &str| if hard { HOSTILE.to_owned() } else { text.to_owned() };
    let outcome = Outcome {
        state: JobState::Failed.into(),
        exit_code: Some(2),
        message: text("the command exited with 2"),
        tree_gone: !hard,
        outputs: [(text("version"), text("1.2.3"))].into(),
        ..Outcome::default()
    };
    let attempt = |number| Attempt {
        number,
        lease: 41,
        runner_id: "r1".to_owned(),
        runner_name: text("build-1"),
        leased_at: ago(95),
        started_at: ago(94),
        finished_at: ago(30),
        outcome: Some(outcome.clone()),
        log: Some(LogEnd {
            stdout_length: 123_456,
            stderr_length: 789,
            dropped: u64::from(hard) * 5_000_000,
            ..LogEnd::default()
        }),
        artifacts: Some(ArtifactTree { files: 1, content: 12_345, ..ArtifactTree::default() }),
    };
    Job {
        id: job_id(7),
        spec: Some(JobSpec {
            command: vec![text("make"), "test".to_owned()],
            name: text("unit tests"),
            project: text("web"),
            labels: vec![text("gpu")],
            timeout: Some(prost_types::Duration { seconds: 3600, nanos: 0 }),
            attempts: 3,
            env: [(text("CI"), "1".to_owned())].into(),
            ..JobSpec::default()
        }),
        state: if hard { JobState::Queued.into() } else { JobState::Failed.into() },
        attempts: (1..=if hard { 20 } else { 1 }).map(attempt).collect(),
        submitted_at: ago(100),
        submitted_by: text("ada"),
        finished_at: if hard { None } else { ago(30) },
        outcome: (!hard).then_some(outcome),
        cancellation: hard.then(|| Cancellation {
            requested_at: ago(4),
            requested_by: text("eve"),
            reason: text(""),
        }),
        dead_letter: hard,
        retry_of: if hard { job_id(6) } else { String::new() },
    }
}

fn health(minute: i64, failing: bool) -> Health {
    let executor = |name: &str, failing: bool| ExecutorHealth {
        name: name.to_owned(),
        healthy: !failing,
        problem: if failing { "cannot connect to the engine".to_owned() } else { String::new() },
        failures: u32::from(failing) * 3,
        ..ExecutorHealth::default()
    };
    Health {
        time: ago(minute * 60),
        load: 1.5,
        cpus: 8,
        memory_total: 32 << 30,
        memory_available: 20 << 30,
        disk_total: 500 << 30,
        disk_available: 123 << 30,
        problem: String::new(),
        executors: vec![executor("local", false), executor("docker", failing)],
    }
}

fn runners(fleet: Fleet) -> Vec<Runner> {
    let runner = |id: &str, name: &str, state: RunnerState| Runner {
        id: id.to_owned(),
        name: name.to_owned(),
        labels: vec!["gpu".to_owned(), "os=linux".to_owned()],
        slots: 4,
        state: state.into(),
        version: "0.1.0".to_owned(),
        registered_at: ago(900_000),
        changed_at: ago(7_500),
        last_heartbeat: ago(2),
        health: (state == RunnerState::Online).then(|| health(0, false)),
        ..Runner::default()
    };
    let lease = RunnerLease {
        job_id: job_id(7),
        job_name: "lint".to_owned(),
        lease: 41,
        state: JobState::Running.into(),
    };
    let unhealthy = Unhealthy {
        name: "docker".to_owned(),
        problem: "cannot connect to the engine".to_owned(),
        since: ago(65),
    };
    match fleet {
        Fleet::Empty => Vec::new(),
        Fleet::Typical => vec![
            Runner {
                leases: vec![lease],
                scheduling: Some(Scheduling {
                    state: SchedulingState::Draining.into(),
                    by: "ada".to_owned(),
                    since: ago(60),
                    deadline: ago(-1740),
                    then: AtDeadline::Requeue.into(),
                }),
                ..runner("r1", "build-1", RunnerState::Online)
            },
            Runner {
                health: Some(health(0, true)),
                unhealthy: vec![unhealthy],
                ..runner("r2", "build-2", RunnerState::Online)
            },
            Runner {
                last_heartbeat: ago(700),
                ..runner("r3", "build-3", RunnerState::Unreachable)
            },
            runner("r4", "mac-mini", RunnerState::Online),
        ],
        Fleet::Overloaded => (0..100)
            .map(|number| Runner {
                labels: vec![HOSTILE.to_owned(); 9],
                leases: vec![lease.clone(); 12],
                slots: 12,
                unhealthy: vec![Unhealthy { problem: HOSTILE.to_owned(), ..unhealthy.clone() }; 5],
                ..runner(
                    &format!("r{number}"),
                    &format!("{number:03}{HOSTILE}"),
                    RunnerState::Online,
                )
            })
            .collect(),
    }
}

fn members(fleet: Fleet) -> Members {
    let hard = fleet == Fleet::Overloaded;
    let member = |node_id: u64| MemberStatus {
        member: Some(ClusterMember {
            node_id,
            voter: node_id < 4,
            address: format!("10.0.0.{node_id}:7700"),
            version: "0.1.0".to_owned(),
            ..ClusterMember::default()
        }),
        reachable: node_id != 3,
        applied: 123_456,
        lag: if node_id == 2 { 0 } else { node_id * 17 },
        disk_free: 123 << 30,
        disk_total: 500 << 30,
        problem: if hard { HOSTILE.to_owned() } else { String::new() },
        missing_files: (node_id < 3).then_some(0),
    };
    let count = if fleet == Fleet::Empty { 1 } else { 3 + u64::from(hard) * 30 };
    Members {
        leader_id: if fleet == Fleet::Empty { 1 } else { 2 },
        term: 7,
        members: (1..=count).map(member).collect(),
    }
}

fn events(fleet: Fleet) -> Vec<Event> {
    let event = |number: i64, kind: &str, subject: &str, name: &str, message: &str| Event {
        id: format!("{number:08}"),
        time: ago(600 - number),
        kind: kind.to_owned(),
        subject: subject.to_owned(),
        name: name.to_owned(),
        by: if kind == "runner_draining" { "ada".to_owned() } else { String::new() },
        message: message.to_owned(),
        warning: message.contains("failed"),
    };
    match fleet {
        Fleet::Empty => Vec::new(),
        Fleet::Typical => vec![
            event(1, "runner_online", "runner:r1", "build-1", "version 0.1.0"),
            event(2, "job_submitted", "job:7", "unit tests", "project web"),
            event(3, "job_finished", "job:7", "unit tests", "failed: exit code 2"),
            event(4, "runner_draining", "runner:r1", "build-1", "until 10:29:00, then requeue"),
            event(5, "queue_paused", "queue:docs", "", "by ada"),
        ],
        Fleet::Overloaded => {
            (0..200).map(|number| event(number, HOSTILE, HOSTILE, HOSTILE, HOSTILE)).collect()
        }
    }
}
