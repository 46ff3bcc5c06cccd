//! Jobs, runners and clusters for people. What it writes may change at any
//! time; programs take JSON.

mod queues;

pub(crate) use self::queues::{queue_name, queues};

use std::{fmt::Write as _, time::Duration};

use jiff::Timestamp;

use super::{
    table::{Table, printable, shorten},
    views::{
        ArtifactView, AttemptView, ClusterView, EventView, ExecutorView, HealthView, JobView,
        ResourcesView, RunnerView, SourceView, SpecView,
    },
};

const NAME_WIDTH: usize = 40;
/// Columns before a value.
const INDENT: usize = 15;
/// A value has at least so many.
const NARROW: usize = 20;
const STATE_COLUMN: usize = 1;
const NO_LEADER: &str = "none: nothing can be changed until more than half of the voters run and reach \
                         each other";

/// How tables are drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Style {
    pub(crate) coloured: bool,
    /// Columns of the terminal; none where lines may be of any length.
    pub(crate) columns: Option<usize>,
}

/// A table of jobs, as of `now`.
pub(crate) fn jobs(jobs: &[JobView], now: Timestamp, style: Style) -> String {
    let mut table = Table::new(["ID", "STATE", "NAME", "PROJECT", "AGE", "DURATION", "RUNNER"]);
    for job in jobs {
        table.row([
            job.id.clone(),
            job.state.to_owned(),
            shorten(&job.name, NAME_WIDTH),
            job.project.clone(),
            age(job.submitted_at, now),
            job_duration(job, now),
            job.attempts.last().map(|attempt| attempt.runner_name.clone()).unwrap_or_default(),
        ]);
    }
    if let Some(columns) = style.columns {
        let left_out = ["PROJECT", "RUNNER", "AGE", "DURATION", "NAME"];
        table.fit(columns, &["NAME"], &left_out);
    }
    table.render(|column, cell| {
        (style.coloured && column == STATE_COLUMN).then(|| state_colour(cell)).flatten()
    })
}

/// A table of events.
pub(crate) fn events(events: &[EventView], style: Style) -> String {
    let mut table = Table::new(["TIME", "EVENT", "ABOUT", "NAME", "BY", "MESSAGE"]);
    for event in events {
        table.row([
            moment(event.time),
            event.kind.clone(),
            event.subject.clone(),
            shorten(&event.name, NAME_WIDTH),
            event.by.clone().unwrap_or_default(),
            event.message.clone(),
        ]);
    }
    if let Some(columns) = style.columns {
        table.fit(columns, &["MESSAGE", "NAME"], &["EVENT", "BY", "NAME"]);
    }
    table.render(|_, _| None)
}

/// An event as one line.
pub(crate) fn event(event: &EventView) -> String {
    let name = match event.name.as_str() {
        "" => String::new(),
        name => format!(" ({name})"),
    };
    let by = event.by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
    let (time, subject, message) = (moment(event.time), &event.subject, &event.message);
    printable(&format!("{time}  {subject}{name}: {message}{by}"))
}

/// Everything about one job, as of `now`.
pub(crate) fn job(job: &JobView, now: Timestamp) -> String {
    let mut lines = Lines::default();
    lines.add("job", &job.id);
    lines.add("state", job.state);
    if let Some(outcome) = &job.outcome {
        let code = outcome.exit_code.map(|code| format!("exit code {code}")).unwrap_or_default();
        let what = if outcome.message.is_empty() { &code } else { &outcome.message };
        let parts = [what, &outcome.reason];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).cloned().collect();
        lines.add("outcome", &parts.join(", "));
    }
    for (name, value) in job.outcome.iter().flat_map(|outcome| &outcome.outputs) {
        lines.add(&format!("output {name}"), value);
    }
    lines.add("name", &job.name);
    lines.add("project", &job.project);
    lines.add("command", &job.spec.command.join(" "));
    lines.add("source", &source(&job.spec));
    lines.add("executor", &executor(&job.spec.executor));
    lines.add("limits", &limits(&job.spec.resources));
    if let Some(artifacts) = &job.spec.artifacts {
        let globs = artifacts.globs.join(", ");
        lines.add("artifacts", &format!("{globs}, on {}", artifacts.when));
    }
    for input in &job.spec.inputs {
        lines.add("input", format!("{} {}", input.job_id, input.path).trim_end());
    }
    for cache in &job.spec.caches {
        lines.add("cache", &format!("{}: {}", cache.key, cache.paths.join(", ")));
    }
    lines.add("labels", &job.spec.labels.join(", "));
    lines.add("priority", &job.spec.priority.to_string());
    lines.add("timeouts", &timeouts(&job.spec));
    lines.add(
        "on lost",
        &format!("{}, {} at most", job.spec.on_lost, counted(job.spec.attempts.into(), "attempt")),
    );
    lines.add("submitted", &format!("{} by {}", moment(job.submitted_at), job.submitted_by));
    lines.add("finished", &moment(job.finished_at));
    lines.add("duration", &job_duration(job, now));
    if let Some(cancellation) = &job.cancellation {
        let CancelledBy { who, why } = CancelledBy::of(cancellation);
        lines.add("cancelled by", &format!("{who}{why}"));
    }
    lines.add("retry of", job.retry_of.as_deref().unwrap_or_default());
    lines.add(
        "dead letter",
        if job.dead_letter { "yes; `baton jobs retry` replays it" } else { "" },
    );
    for attempt in &job.attempts {
        let how = attempt.outcome.as_ref().map_or("live", |outcome| outcome.state);
        let lasted = span(attempt.started_at, attempt.finished_at.or(Some(now)));
        let reason = attempt.outcome.as_ref().map(|outcome| outcome.reason.as_str());
        let reason = reason.filter(|reason| !reason.is_empty()).map(|it| format!(", {it}"));
        let reason = reason.unwrap_or_default();
        let text = format!("{how} on {} ({lasted}){reason}", attempt.runner_name);
        lines.add(&format!("attempt {}", attempt.number), &text);
        lines.add("  output", &output(attempt));
        if let Some(artifacts) = &attempt.artifacts {
            let files = counted(artifacts.files, "file");
            let text = format!("{files}, {}", bytes(artifacts.bytes));
            lines.add("  artifacts", &text);
        }
        let held = attempt.outcome.iter().flat_map(|outcome| &outcome.limits);
        let held: Vec<_> = held.map(|(limit, by)| format!("{limit} by {by}")).collect();
        lines.add("  limits held", &held.join(", "));
    }
    lines.text
}

/// A table of what a job left.
pub(crate) fn artifacts(artifacts: &[ArtifactView]) -> String {
    let mut table = Table::new(["SIZE", "PATH"]);
    for artifact in artifacts {
        let leads = artifact.target.as_ref().map(|target| format!(" -> {target}"));
        let path = format!("{}{}", artifact.path, leads.unwrap_or_default());
        table.row([artifact.size.to_string(), path]);
    }
    table.render(|_, _| None)
}

/// A table of runners, as of `now`.
pub(crate) fn runners(runners: &[RunnerView], now: Timestamp, style: Style) -> String {
    let mut table = Table::new(["NAME", "STATE", "SLOTS", "LABELS", "SINCE", "HEARD", "VERSION"]);
    for runner in runners {
        table.row([
            runner.name.clone(),
            health(runner),
            format!("{}/{}", runner.slots_used, runner.slots),
            runner.labels.join(","),
            age(runner.changed_at, now),
            age(runner.last_heartbeat, now),
            runner.version.clone(),
        ]);
    }
    if let Some(columns) = style.columns {
        table.fit(columns, &["LABELS", "NAME"], &["VERSION", "LABELS", "SINCE", "HEARD"]);
    }
    table.render(|column, cell| {
        (style.coloured && column == STATE_COLUMN).then(|| state_colour(cell)).flatten()
    })
}

/// A runner's state, and what of it gets no jobs.
fn health(runner: &RunnerView) -> String {
    let names: Vec<&str> = runner.unhealthy.iter().map(|it| it.name.as_str()).collect();
    let mut parts = vec![runner.state.to_owned()];
    parts.extend((runner.scheduling.state != "active").then(|| runner.scheduling.state.to_owned()));
    parts.extend((!names.is_empty()).then(|| format!("not {}", names.join(", "))));
    parts.join(", ")
}

/// Whether a runner is given jobs; nothing when there is nothing to say.
fn scheduling(runner: &RunnerView, now: Timestamp) -> String {
    let told = &runner.scheduling;
    let mut parts = Vec::new();
    if told.state != "active" {
        let by = told.by.iter().map(|by| format!(" by {by}, {}", age(told.since, now)));
        parts.push(format!("{}{}", told.state, by.collect::<String>()));
    }
    if let Some((deadline, then)) = told.deadline.zip(told.then) {
        parts.push(format!("until {}, then {then}", moment(Some(deadline))));
    }
    parts.extend(runner.ephemeral.then(|| "ephemeral: takes one job".to_owned()));
    parts.join("; ")
}

/// Everything about one runner, as of `now`.
pub(crate) fn runner(runner: &RunnerView, now: Timestamp, style: Style) -> String {
    let mut lines = Lines { columns: style.columns, ..Lines::default() };
    lines.add("runner", &runner.name);
    lines.add("id", &runner.id);
    lines.add("state", &format!("{} for {}", runner.state, age(runner.changed_at, now)));
    lines.add("scheduling", &scheduling(runner, now));
    lines.add("labels", &runner.labels.join(", "));
    lines.add("  granted", &runner.granted_labels.join(", "));
    lines.add("  hidden", &runner.hidden_labels.join(", "));
    lines.add("slots", &format!("{} of {} used", runner.slots_used, runner.slots));
    lines.add("executors", &runner.executors.join(", "));
    for target in &runner.targets {
        let labels = target.labels.join(", ");
        let parts = [counted(target.slots.into(), "slot"), labels]
            .into_iter()
            .filter(|part| !part.is_empty());
        let parts: Vec<_> = parts.collect();
        lines.add(&format!("  target {}", target.name), &parts.join("; "));
    }
    lines.add("version", &runner.version);
    for unhealthy in &runner.unhealthy {
        let text =
            format!("{}: {} ({})", unhealthy.name, unhealthy.problem, age(unhealthy.since, now));
        lines.add("gets no jobs", &text);
    }
    if let Some(health) = &runner.health {
        lines.add("looked at itself", &age(health.time, now));
        lines.add(
            "load",
            &format!("{:.2} on {}", health.load, counted(health.cpus.into(), "processor")),
        );
        let (free, total) = (gigabytes(health.memory_available), gigabytes(health.memory_total));
        lines.add("memory", &format!("{free} of {total} GiB available"));
        let (free, total) = (gigabytes(health.disk_available), gigabytes(health.disk_total));
        lines.add("disk", &format!("{free} of {total} GiB available"));
        if let Some(offset) = health.clock_offset_seconds {
            lines.add("clock", &format!("{offset:+.3} s against the leader's"));
        }
        for executor in &health.executors {
            let how = match (executor.healthy, executor.failures) {
                (true, 0) => "healthy".to_owned(),
                (healthy, failures) => {
                    let still = if healthy { "still healthy, " } else { "" };
                    let failures = counted(failures.into(), "failure");
                    format!("{still}{failures} in a row: {}", executor.problem)
                }
            };
            let version = Some(&executor.version).filter(|version| !version.is_empty());
            let version = version.map(|it| format!(", version {it}")).unwrap_or_default();
            // Nothing is asked over any distance there.
            let took = executor.round_trip_seconds.filter(|_| executor.name != "local");
            let took = took.map(|it| format!(", answers in {:.0} ms", it * 1000.0));
            let text = format!("{how}{version}{}", took.unwrap_or_default());
            lines.add(&format!("  {}", executor.name), &text);
        }
    }
    lines.add("registered", &moment(runner.registered_at));
    lines.add("last heartbeat", &moment(runner.last_heartbeat));
    for lease in &runner.leases {
        let text = format!("{} {} (lease {})", lease.state, lease.job_name, lease.lease);
        lines.add(&lease.job_id, &text);
    }
    lines.text
}

/// A table of what a runner found when it looked at itself.
pub(crate) fn checks(checks: &[HealthView]) -> String {
    let mut table = Table::new(["TIME", "LOAD", "MEMORY FREE", "DISK FREE", "PROBLEMS"]);
    for check in checks {
        let failing = check.executors.iter().filter(|executor| executor.failures > 0);
        let failing = failing.map(|executor| {
            let out = if executor.healthy { "" } else { ", gets no jobs" };
            format!("{}: {} ({}{out})", executor.name, executor.problem, executor.failures)
        });
        let host = Some(check.problem.clone()).filter(|problem| !problem.is_empty());
        let problems: Vec<_> = host.into_iter().chain(failing).collect();
        table.row([
            moment(check.time),
            format!("{:.2}", check.load),
            bytes(check.memory_available),
            bytes(check.disk_available),
            problems.join("; "),
        ]);
    }
    table.render(|_, _| None)
}

/// The figures of the fleet, and a table of its coordinators.
pub(crate) fn cluster(cluster: &ClusterView, style: Style) -> String {
    let mut lines = Lines::default();
    lines.add("cluster", &cluster.cluster_id);
    lines.add("answered by", &format!("node {} (Baton {})", cluster.node_id, cluster.version));
    let leader = match cluster.leader_id {
        Some(id) => format!("node {id}, term {}", cluster.term),
        None => NO_LEADER.to_owned(),
    };
    lines.add("leader", &leader);
    lines.add("raft log", &format!("{} committed, {} applied", cluster.committed, cluster.applied));
    lines.add("jobs", &format!("{} queued, {} running", cluster.jobs_queued, cluster.jobs_running));
    let runners = (cluster.runners_online, cluster.runners_unreachable);
    lines.add("runners", &format!("{} online, {} unreachable", runners.0, runners.1));
    lines.add("slots", &format!("{} of {} used", cluster.slots_used, cluster.slots));
    format!("{}\n{}", lines.text, members(cluster, style))
}

/// A table of coordinators.
fn members(cluster: &ClusterView, style: Style) -> String {
    let headings =
        ["NODE", "STATE", "ROLE", "LAG", "DISK FREE", "ADDRESS", "PEERS AT", "VERSION", "PROBLEM"];
    let mut table = Table::new(headings);
    for member in &cluster.members {
        let role = match member.voter {
            _ if cluster.leader_id == Some(member.node_id) => "leader",
            true => "voter",
            false => "learner",
        };
        let free = member.disk_free.zip(member.disk_total);
        table.row([
            member.node_id.to_string(),
            if member.reachable { "reachable" } else { "unreachable" }.to_owned(),
            role.to_owned(),
            member.lag.map(|lag| lag.to_string()).unwrap_or_default(),
            free.map(|(free, total)| format!("{} of {}", bytes(free), bytes(total)))
                .unwrap_or_default(),
            member.address.clone(),
            member.peer_address.clone(),
            member.version.clone(),
            member.problem.clone().unwrap_or_default(),
        ]);
    }
    if let Some(columns) = style.columns {
        table.fit(columns, &["PROBLEM"], &["VERSION", "PEERS AT", "DISK FREE", "ADDRESS"]);
    }
    table.render(|column, cell| {
        (style.coloured && column == STATE_COLUMN).then(|| state_colour(cell)).flatten()
    })
}

/// So many of something, whose plural has an s.
pub(crate) fn counted(count: u64, one: &str) -> String {
    format!("{count} {one}{}", if count == 1 { "" } else { "s" })
}

/// `bytes` in the unit that reads best.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 4] = ["KiB", "MiB", "GiB", "TiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    format!("{value:.1} {}", UNITS[unit])
}

/// Where the code of a job came from.
fn source(spec: &SpecView) -> String {
    match &spec.source {
        Some(SourceView::Archive { digest, size }) => {
            format!("archive of {}, BLAKE3 {digest}", bytes(*size))
        }
        Some(SourceView::Tree { digest, content, .. }) => {
            format!("folder of {}, BLAKE3 {digest}", bytes(*content))
        }
        Some(SourceView::Git { url, reference, depth, submodules, lfs }) => {
            let mut text = format!("git:{url}");
            if !reference.is_empty() {
                text.push_str(&format!("#{reference}"));
            }
            if *depth > 0 {
                text.push_str(&format!(", depth {depth}"));
            }
            text.push_str(if *submodules { "" } else { ", without submodules" });
            text.push_str(if *lfs { ", with LFS" } else { "" });
            text
        }
        Some(SourceView::Workspace { path }) => format!("workspace:{path}"),
        None => String::new(),
    }
}

/// When a job is stopped, and when it is given up.
#[expect(clippy::cast_precision_loss, reason = "one digit is shown")]
fn gigabytes(bytes: u64) -> String {
    format!("{:.1}", bytes as f64 / f64::from(1 << 30))
}

/// Where it runs, in the words of the options.
fn executor(executor: &ExecutorView) -> String {
    let Some(container) = &executor.container else {
        return [executor.kind, &executor.target].join(" ").trim_end().to_owned();
    };
    let mut parts = vec![format!("{} {}", executor.kind, container.image)];
    parts.extend(container.user.iter().map(|user| format!("user {user}")));
    parts.extend(container.network.iter().map(|network| format!("network {network}")));
    parts.extend(container.mounts.iter().map(|mount| {
        let read_only = if mount.read_only { ":ro" } else { "" };
        format!("mount {}:{}{read_only}", mount.source, mount.target)
    }));
    parts.extend(container.tmpfs.iter().map(|tmpfs| format!("tmpfs {}", tmpfs.target)));
    let services = container.services.iter();
    parts.extend(services.map(|service| format!("service {}={}", service.name, service.image)));
    parts.join(", ")
}

fn limits(resources: &ResourcesView) -> String {
    let parts = [
        resources.cpus.map(|cpus| format!("{cpus} cpus")),
        resources.memory.map(|memory| format!("{memory} bytes of memory")),
        resources.processes.map(|processes| format!("{processes} processes")),
        resources.open_files.map(|files| format!("{files} open files")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn timeouts(spec: &SpecView) -> String {
    let limits = [
        ("soft", spec.soft_timeout_seconds),
        ("hard", spec.timeout_seconds),
        ("queue", spec.queue_timeout_seconds),
    ];
    let limits = limits.into_iter().filter_map(|(name, seconds)| {
        let limit = Duration::try_from_secs_f64(seconds?).ok()?;
        Some(format!("{name} {}", humantime::format_duration(limit)))
    });
    limits.collect::<Vec<_>>().join(", ")
}

/// How much an attempt wrote, and how much of that is not kept.
fn output(attempt: &AttemptView) -> String {
    let Some(log) = &attempt.log else { return String::new() };
    let (stdout, stderr) = (bytes(log.stdout_length), bytes(log.stderr_length));
    let mut text = format!("{stdout} of standard output, {stderr} of standard error");
    if log.dropped > 0 {
        text.push_str(&format!("; {} beyond the limit dropped", bytes(log.dropped)));
    }
    text
}

struct CancelledBy {
    who: String,
    why: String,
}

impl CancelledBy {
    fn of(cancellation: &super::views::CancellationView) -> Self {
        let why = if cancellation.reason.is_empty() {
            String::new()
        } else {
            format!(": {}", cancellation.reason)
        };
        Self { who: cancellation.requested_by.clone(), why }
    }
}

#[derive(Default)]
struct Lines {
    text: String,
    /// Columns of the terminal; none where lines may be of any length.
    columns: Option<usize>,
}

impl Lines {
    /// Adds `name: value`, unless there is no value. What does not fit goes on below it.
    fn add(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        let mut name = format!("{name}:");
        let room = self.columns.map_or(usize::MAX, |it| it.saturating_sub(INDENT + 1).max(NARROW));
        for line in wrap(&printable(value), room) {
            // Writing to a string cannot fail.
            let _ok = writeln!(self.text, "{name:<INDENT$} {line}");
            name.clear();
        }
    }
}

/// `text` in lines of at most `room` characters, if no word is longer.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split_inclusive(' ') {
        let last = lines.last_mut().filter(|line| {
            let length = line.chars().count() + word.trim_end().chars().count();
            line.is_empty() || length <= room
        });
        match last {
            Some(line) => line.push_str(word),
            None => lines.push(word.to_owned()),
        }
    }
    lines.iter().map(|line| line.trim_end().to_owned()).collect()
}

fn job_duration(job: &JobView, now: Timestamp) -> String {
    let attempt = job.attempts.last();
    let started = attempt.and_then(|attempt| attempt.started_at);
    let finished = attempt.and_then(|attempt| attempt.finished_at).or(job.finished_at);
    span(started, finished.or(Some(now)))
}

fn moment(time: Option<Timestamp>) -> String {
    time.map(|time| format!("{time:.0}")).unwrap_or_default()
}

/// How long ago that was, to the second.
fn age(time: Option<Timestamp>, now: Timestamp) -> String {
    match span(time, Some(now)) {
        span if span.ends_with("ms") => "0s".to_owned(),
        span => span,
    }
}

/// The time between, in its two largest units.
fn span(from: Option<Timestamp>, to: Option<Timestamp>) -> String {
    let (Some(from), Some(to)) = (from, to) else { return String::new() };
    let span = Duration::try_from(to.duration_since(from)).unwrap_or_default();
    if span < Duration::from_secs(1) {
        return format!("{}ms", span.as_millis());
    }
    let text = humantime::format_duration(Duration::from_secs(span.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

fn state_colour(state: &str) -> Option<&'static str> {
    match state {
        "succeeded" | "online" | "reachable" => Some("\x1b[32m"),
        "failed" | "timed_out" | "error" | "lost" | "unreachable" => Some("\x1b[31m"),
        "running" | "leased" => Some("\x1b[36m"),
        "cancelled" => Some("\x1b[33m"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_is_longer_than_the_terminal_is_wide() {
        use baton_proto::v1;
        let spec = v1::JobSpec {
            command: vec!["c".repeat(60)],
            project: "p".repeat(20),
            ..v1::JobSpec::default()
        };
        let attempt = v1::Attempt { runner_name: "r".repeat(30), ..v1::Attempt::default() };
        let job = v1::Job {
            id: "0".repeat(26),
            spec: Some(spec),
            state: v1::JobState::Succeeded.into(),
            submitted_at: Some(prost_types::Timestamp::default()),
            attempts: vec![attempt],
            ..v1::Job::default()
        };
        let runner = v1::Runner {
            name: "r".repeat(60),
            state: v1::RunnerState::Unreachable.into(),
            labels: vec!["l".repeat(60)],
            version: "1.2.3".to_owned(),
            changed_at: Some(prost_types::Timestamp::default()),
            last_heartbeat: Some(prost_types::Timestamp::default()),
            ..v1::Runner::default()
        };
        let now = Timestamp::from_second(3_000_000).unwrap();
        for columns in [40, 80, 120] {
            let style = Style { coloured: false, columns: Some(columns) };
            let tables = [
                jobs(&[JobView::from(&job)], now, style),
                runners(&[RunnerView::from(&runner)], now, style),
            ];
            for line in tables.iter().flat_map(|table| table.lines()) {
                assert!(line.chars().count() <= columns, "{columns}: {line}");
            }
        }
        let anywhere = jobs(&[JobView::from(&job)], now, Style::default());
        assert!(anywhere.contains(&"p".repeat(20)) && anywhere.contains(&"r".repeat(30)));
    }

    #[test]
    fn members_are_told_with_their_part_and_how_they_are() {
        use baton_proto::v1;
        let member = |node_id, voter, reachable| v1::MemberStatus {
            member: Some(v1::ClusterMember {
                node_id,
                voter,
                address: format!("host-{node_id}:7700"),
                ..v1::ClusterMember::default()
            }),
            reachable,
            lag: 5,
            disk_free: 1 << 30,
            disk_total: 2 << 30,
            ..v1::MemberStatus::default()
        };
        let members = vec![member(1, true, true), member(2, true, false), member(3, false, true)];
        let answer = |leader_id| v1::ListMembersResponse {
            leader_id,
            members: members.clone(),
            ..v1::ListMembersResponse::default()
        };
        let text = |leader, columns| {
            let view = ClusterView::new(v1::ClusterStatusResponse::default(), answer(leader));
            cluster(&view, Style { coloured: false, columns })
        };
        let led = text(1, None);
        let rows: Vec<Vec<&str>> =
            led.lines().skip_while(|line| !line.starts_with("NODE")).map(cells).collect();
        assert_eq!(
            rows[1][..6],
            ["1", "reachable", "leader", "5", "1.0 GiB of 2.0 GiB", "host-1:7700"]
        );
        assert_eq!(rows[2][..3], ["2", "unreachable", "voter"]);
        assert_eq!(rows[3][..3], ["3", "reachable", "learner"]);
        let leaderless = text(0, None);
        assert!(leaderless.contains("none: nothing can be changed"), "{leaderless}");
        for line in text(1, Some(60)).lines().skip_while(|line| !line.starts_with("NODE")) {
            assert!(line.chars().count() <= 60, "{line}");
        }
    }

    fn cells(line: &str) -> Vec<&str> {
        line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect()
    }

    #[test]
    fn a_job_shows_what_it_brought_its_limits_and_what_was_dropped() {
        use baton_proto::v1;
        let archive = v1::Archive { digest: "d1".to_owned(), size: 2048 };
        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let spec = v1::JobSpec {
            source: Some(v1::Source { kind: Some(v1::source::Kind::Archive(archive)) }),
            soft_timeout: seconds(3540),
            timeout: seconds(3600),
            queue_timeout: seconds(2),
            ..v1::JobSpec::default()
        };
        let log = v1::LogEnd { stdout_length: 5, dropped: 1024, ..v1::LogEnd::default() };
        let attempt = v1::Attempt { number: 1, log: Some(log), ..v1::Attempt::default() };
        let shown = v1::Job { spec: Some(spec), attempts: vec![attempt], ..v1::Job::default() };
        let text = job(&JobView::from(&shown), Timestamp::UNIX_EPOCH);
        for line in [
            "source:         archive of 2.0 KiB, BLAKE3 d1",
            "timeouts:       soft 59m, hard 1h, queue 2s",
            "  output:       5 B of standard output, 0 B of standard error; \
             1.0 KiB beyond the limit dropped",
        ] {
            assert!(text.lines().any(|told| told == line), "{line}\n{text}");
        }
    }

    #[test]
    fn a_source_that_the_runner_fetches_shows_as_it_was_asked_for() {
        let text = |shown| source(&SpecView { source: Some(shown), ..SpecView::default() });
        let git = |reference: &str, depth, submodules| {
            let (url, reference) = ("https://example.org/x".to_owned(), reference.to_owned());
            SourceView::Git { url, reference, depth, submodules, lfs: depth > 0 }
        };
        assert_eq!(text(git("", 0, true)), "git:https://example.org/x");
        let all = "git:https://example.org/x#v1, depth 2, without submodules, with LFS";
        assert_eq!(text(git("v1", 2, false)), all);
        assert_eq!(text(SourceView::Workspace { path: "a".to_owned() }), "workspace:a");
    }

    #[test]
    fn a_runner_shows_its_problems_whole_and_how_quick_its_targets_answer() {
        use baton_proto::v1;
        let problem = "the target lab: ".to_owned() + &"cannot be reached at all ".repeat(10);
        let executors = vec![v1::ExecutorHealth {
            name: "ssh:lab".to_owned(),
            healthy: true,
            failures: 1,
            problem: problem.trim_end().to_owned(),
            round_trip: Some(prost_types::Duration { seconds: 0, nanos: 25_000_000 }),
            ..v1::ExecutorHealth::default()
        }];
        let health = Some(v1::Health { executors, ..v1::Health::default() });
        let shown = RunnerView::from(&v1::Runner { health, ..v1::Runner::default() });
        let style = Style { coloured: false, columns: Some(60) };
        let text = runner(&shown, Timestamp::UNIX_EPOCH, style);
        assert!(text.lines().all(|line| line.chars().count() <= 60), "{text}");
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let told = format!("1 failure in a row: {}, answers in 25 ms", problem.trim_end());
        assert!(words.contains(&told), "{text}");
    }

    #[test]
    fn an_attempt_shows_why_it_ended() {
        use baton_proto::v1;
        let outcome = Some(v1::Outcome {
            state: v1::JobState::Cancelled.into(),
            reason: "DRAINED".to_owned(),
            ..v1::Outcome::default()
        });
        let attempt = v1::Attempt {
            number: 1,
            runner_name: "one".to_owned(),
            outcome,
            ..v1::Attempt::default()
        };
        let shown = v1::Job { attempts: vec![attempt], ..v1::Job::default() };
        let text = job(&JobView::from(&shown), Timestamp::UNIX_EPOCH);
        assert!(text.contains("attempt 1:      cancelled on one (), DRAINED\n"), "{text}");
    }

    #[test]
    fn sizes_and_spans_read_well() {
        assert_eq!(bytes(5), "5 B");
        assert_eq!(bytes(64 << 20), "64.0 MiB");
        assert_eq!([0, 1, 2].map(|count| counted(count, "job")), ["0 jobs", "1 job", "2 jobs"]);
        let at = |second| Timestamp::from_second(second).ok();
        assert_eq!(span(at(0), at(3_725)), "1h 2m");
        assert_eq!(span(at(5), at(0)), "0ms");
        let tenth = Timestamp::from_millisecond(100).unwrap();
        assert_eq!((span(at(0), Some(tenth)), age(at(0), tenth)), ("100ms".into(), "0s".into()));
        assert_eq!(age(at(0), Timestamp::from_second(3_725).unwrap()), "1h 2m");
        assert_eq!(span(None, at(0)), "");
    }
}
