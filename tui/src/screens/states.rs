//! What the states of jobs and runners are called and look like, the same on every screen.

use baton_proto::v1::{
    AtDeadline, Health, Job, JobState, JobSummary, Runner, RunnerState, Scheduling, SchedulingState,
};

use crate::{
    theme::{Glyphs, Theme, Tone},
    widgets::cell::Cell,
};

/// Every state of a job, by the name that filters and people use.
pub(crate) const JOB_STATES: [(&str, JobState); 9] = [
    ("queued", JobState::Queued),
    ("leased", JobState::Leased),
    ("running", JobState::Running),
    ("succeeded", JobState::Succeeded),
    ("failed", JobState::Failed),
    ("timed_out", JobState::TimedOut),
    ("cancelled", JobState::Cancelled),
    ("error", JobState::Error),
    ("lost", JobState::Lost),
];

/// Those that somebody should look at.
pub(crate) const FAILED: [JobState; 4] =
    [JobState::Failed, JobState::TimedOut, JobState::Error, JobState::Lost];

pub(crate) fn job_state_name(state: JobState) -> &'static str {
    JOB_STATES.iter().find(|(_, known)| *known == state).map_or("unknown", |(name, _)| name)
}

pub(crate) fn is_live(state: JobState) -> bool {
    matches!(state, JobState::Queued | JobState::Leased | JobState::Running)
}

/// A state as sign and word.
pub(crate) fn job_state(state: JobState, cancelling: bool, theme: Theme) -> Cell {
    let glyphs = theme.glyphs;
    let (glyph, tone) = match state {
        _ if cancelling && is_live(state) => (glyphs.stopped, Tone::Warn),
        JobState::Queued => (glyphs.waiting, Tone::Text),
        JobState::Leased => (glyphs.starting, Tone::Busy),
        JobState::Running => (glyphs.running, Tone::Busy),
        JobState::Succeeded => (glyphs.good, Tone::Good),
        JobState::Cancelled => (glyphs.stopped, Tone::Dim),
        JobState::Failed | JobState::TimedOut | JobState::Error | JobState::Lost => {
            (glyphs.bad, Tone::Bad)
        }
        JobState::Unspecified => (glyphs.warn, Tone::Warn),
    };
    let name = if cancelling && is_live(state) { "stopping" } else { job_state_name(state) };
    Cell::new(format!("{glyph} {name}"), tone)
}

/// How a runner is: what is wrong with it comes first.
pub(crate) fn runner_state(runner: &Runner, theme: Theme) -> Cell {
    let glyphs = theme.glyphs;
    let scheduling = runner.scheduling.clone().unwrap_or_default();
    let (glyph, name, tone) = match (runner.state(), scheduling.state()) {
        (RunnerState::Unreachable, _) => (glyphs.bad, "unreachable", Tone::Bad),
        _ if !runner.unhealthy.is_empty() => (glyphs.warn, "unhealthy", Tone::Bad),
        (_, SchedulingState::Cordoned) => (glyphs.paused, "cordoned", Tone::Warn),
        (_, SchedulingState::Draining) => (glyphs.stopped, "draining", Tone::Warn),
        (RunnerState::Online, _) => (glyphs.running, "online", Tone::Good),
        (RunnerState::Unspecified, _) => (glyphs.warn, "unknown", Tone::Warn),
    };
    Cell::new(format!("{glyph} {name}"), tone)
}

pub(crate) fn is_cordoned(runner: &Runner) -> bool {
    let state = runner.scheduling.as_ref().map(Scheduling::state);
    matches!(state, Some(SchedulingState::Cordoned | SchedulingState::Draining))
}

pub(crate) fn at_deadline(then: AtDeadline) -> &'static str {
    match then {
        AtDeadline::Unspecified | AtDeadline::Wait => "wait",
        AtDeadline::Requeue => "requeue",
        AtDeadline::Cancel => "cancel",
    }
}

/// One executor: sign, name and, where it fails, why.
pub(crate) fn executors(health: &Health, glyphs: &Glyphs) -> Vec<Cell> {
    let told = health.executors.iter().enumerate().map(|(at, executor)| {
        let gap = if at > 0 { "  " } else { "" };
        let (glyph, tone) = match (executor.healthy, executor.failures) {
            (true, 0) => (glyphs.good, Tone::Good),
            (true, _) => (glyphs.warn, Tone::Warn),
            (false, _) => (glyphs.bad, Tone::Bad),
        };
        Cell::new(format!("{gap}{glyph} {}", executor.name), tone)
    });
    told.collect()
}

/// A share of a whole in percent; nothing where there is no whole.
pub(crate) fn percent(part: u64, whole: u64) -> String {
    let share = u128::from(part) * 100;
    share.checked_div(u128::from(whole)).map(|share| format!("{share}%")).unwrap_or_default()
}

/// What people call a job.
pub(crate) fn name_of(job: &Job) -> String {
    let spec = job.spec.clone().unwrap_or_default();
    if spec.name.is_empty() { spec.command.join(" ") } else { spec.name }
}

/// What a job or a runner is called where it must not be taken for another one.
pub(crate) fn exact_name(name: &str, id: &str) -> String {
    format!("{name} ({id})")
}

/// A whole job as a line of a list.
pub(crate) fn summary(job: &Job) -> JobSummary {
    use baton_proto::v1::executor::Kind;
    let spec = job.spec.clone().unwrap_or_default();
    let attempt = job.attempts.last();
    let executor = match spec.executor.and_then(|executor| executor.kind) {
        None | Some(Kind::Local(_)) => "local".to_owned(),
        Some(Kind::Docker(_)) => "docker".to_owned(),
        Some(Kind::Ssh(ssh)) => format!("ssh:{}", ssh.target),
    };
    JobSummary {
        id: job.id.clone(),
        name: name_of(job),
        project: spec.project,
        state: job.state,
        labels: spec.labels,
        executor,
        priority: spec.priority,
        submitted_at: job.submitted_at,
        submitted_by: job.submitted_by.clone(),
        started_at: attempt.and_then(|attempt| attempt.started_at),
        finished_at: job.finished_at,
        runner_name: attempt.map(|attempt| attempt.runner_name.clone()).unwrap_or_default(),
        attempts: u32::try_from(job.attempts.len()).unwrap_or(u32::MAX),
        exit_code: job.outcome.as_ref().and_then(|outcome| outcome.exit_code),
        reason: job.outcome.as_ref().map(|outcome| outcome.reason.clone()).unwrap_or_default(),
        dead_letter: job.dead_letter,
        cancelling: job.cancellation.is_some() && is_live(job.state()),
    }
}
