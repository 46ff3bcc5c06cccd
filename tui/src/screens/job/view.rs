//! Draws a job.

use baton_proto::v1::{
    Attempt, Executor, Job, JobSpec, OnLost, Resources, Source, executor, source,
};
use ratatui::{buffer::Buffer, layout::Rect};

use super::state::{JobScreen, PANES, Pane};
use crate::{
    screens::{Context, states},
    text::{bytes, count},
    theme::Tone,
    time::{age, between, full, span, timestamp},
    widgets::{cell::Cell, page::Page, panes},
};

impl JobScreen {
    pub(super) fn view(&self, buffer: &mut Buffer, context: &Context<'_>) {
        for (at, place) in self.places(context.body).into_iter().enumerate() {
            let Some(place) = place else { continue };
            let title = match PANES[at] {
                Pane::Record => "Record".to_owned(),
                Pane::Log => self.log.panel().title(),
            };
            panes::frame(&title, at == self.pane, place, buffer, context.theme);
            let inner = panes::inner(place);
            match PANES[at] {
                Pane::Record => {
                    self.scroll.draw(&self.record(context), inner, buffer, context.theme);
                }
                Pane::Log => self.log.panel().draw(inner, buffer, context.theme, context.zone),
            }
        }
    }

    pub(super) fn places(&self, body: Rect) -> Vec<Option<Rect>> {
        panes::arrange(body, PANES.len(), self.pane, self.full)
    }

    /// Everything but its output.
    pub(super) fn record(&self, context: &Context<'_>) -> Page {
        let mut page = Page::default();
        if let Some(problem) = &self.problem {
            page.line(vec![Cell::new(problem, Tone::Bad)]);
        }
        let Some(job) = &self.job else {
            if self.problem.is_none() {
                page.line(vec![Cell::new("waiting for the coordinator", Tone::Dim)]);
            }
            return page;
        };
        self.how_it_is(job, &mut page, context);
        for attempt in job.attempts.iter().rev() {
            tell_attempt(attempt, &mut page, context);
        }
        if !self.artifacts.is_empty() {
            page.heading("Artifacts");
            for (path, size) in &self.artifacts {
                page.value(&bytes(*size), path.as_str());
            }
        }
        let spec = job.spec.clone().unwrap_or_default();
        page.heading("What was asked for");
        tell_spec(&spec, &mut page);
        page.value("submitted", full(job.submitted_at.as_ref(), context.zone));
        page.value("by", job.submitted_by.as_str());
        page.value("retry of", job.retry_of.as_str());
        page
    }

    fn how_it_is(&self, job: &Job, page: &mut Page, context: &Context<'_>) {
        page.line(vec![Cell::new(states::name_of(job), Tone::Strong)]);
        let cancelling = job.cancellation.is_some();
        page.value("state", states::job_state(job.state(), cancelling, context.theme));
        if let Some(outcome) = &job.outcome {
            let code = outcome.exit_code.map(|code| format!("exit code {code}"));
            // A plain exit is all that its message says.
            let code = code.filter(|code| *code != outcome.message);
            let parts = [&code.unwrap_or_default(), &outcome.reason, &outcome.message];
            let parts: Vec<&str> =
                parts.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
            let failed = states::FAILED.contains(&job.state());
            let tone = if failed { Tone::Bad } else { Tone::Text };
            page.value("how", Cell::new(parts.join(", "), tone));
            for (name, value) in &outcome.outputs {
                page.value(&format!("={name}"), value.as_str());
            }
        }
        if let Some(waiting) = &self.waiting {
            page.value("waits for", age(job.submitted_at.as_ref(), context.now));
            page.value("because", Cell::new(&waiting.message, Tone::Warn));
            page.value(
                "ahead",
                match waiting.ahead {
                    0 => String::new(),
                    ahead => count(usize::try_from(ahead).unwrap_or(usize::MAX), "job"),
                },
            );
        }
        if let Some(cancellation) = &job.cancellation {
            let since = age(cancellation.requested_at.as_ref(), context.now);
            let text =
                format!("by {}, {since} ago {}", cancellation.requested_by, cancellation.reason);
            page.value("cancelled", text.trim_end().to_owned());
        }
        if job.dead_letter {
            page.value("dead letter", Cell::new("it used up its attempts", Tone::Warn));
        }
        page.value("id", job.id.as_str());
    }
}

fn tell_attempt(attempt: &Attempt, page: &mut Page, context: &Context<'_>) {
    page.heading(&format!("Attempt {}", attempt.number));
    page.value("runner", attempt.runner_name.as_str());
    page.value("started", full(attempt.started_at.as_ref(), context.zone));
    let from = timestamp(attempt.started_at.as_ref());
    let to = timestamp(attempt.finished_at.as_ref()).unwrap_or(context.now);
    page.value("took", from.map(|from| span(between(from, to))).unwrap_or_default());
    match &attempt.outcome {
        None => page.value("state", Cell::new("live", Tone::Busy)),
        Some(outcome) => {
            let state = states::job_state(outcome.state(), false, context.theme);
            let message = [&outcome.reason, &outcome.message];
            let message: Vec<&str> =
                message.into_iter().map(String::as_str).filter(|part| !part.is_empty()).collect();
            let gap = if message.is_empty() { "" } else { "  " };
            let message = Cell::new(format!("{gap}{}", message.join(", ")), Tone::Dim);
            page.values("state", vec![state, message]);
            if !outcome.tree_gone {
                page.value("", Cell::new("nobody saw that no process of it was left", Tone::Warn));
            }
        }
    }
    if let Some(log) = &attempt.log {
        let whole = log.stdout_length.saturating_add(log.stderr_length);
        let dropped = match log.dropped {
            0 => String::new(),
            dropped => format!(", {} not kept", bytes(dropped)),
        };
        page.value("output", format!("{}{dropped}", bytes(whole)));
    } else if attempt.outcome.is_some() {
        page.value("output", Cell::new("may lack its end", Tone::Warn));
    }
    if let Some(artifacts) = &attempt.artifacts {
        let files = usize::try_from(artifacts.files).unwrap_or(usize::MAX);
        page.value("artifacts", format!("{}, {}", count(files, "file"), bytes(artifacts.content)));
    }
}

fn tell_spec(spec: &JobSpec, page: &mut Page) {
    page.value("command", spec.command.join(" "));
    page.value("project", spec.project.as_str());
    page.value("executor", executor_of(spec.executor.as_ref()));
    page.value("source", source_of(spec.source.as_ref()));
    for input in &spec.inputs {
        page.value("input", format!("{} {}", input.job_id, input.path));
    }
    for cache in &spec.caches {
        page.value("cache", cache.key.as_str());
    }
    page.value("labels", spec.labels.join(" "));
    page.value("priority", spec.priority.to_string());
    page.value("limits", limits(&spec.resources.unwrap_or_default()));
    let seconds = |limit: Option<&prost_types::Duration>| {
        let limit = limit.and_then(baton_proto::time::duration_from_proto);
        limit.map(span).unwrap_or_default()
    };
    page.value("soft limit", seconds(spec.soft_timeout.as_ref()));
    page.value("timeout", seconds(spec.timeout.as_ref()));
    page.value("may wait", seconds(spec.queue_timeout.as_ref()));
    let lost = match spec.on_lost() {
        OnLost::Unspecified | OnLost::Requeue => "start it again",
        OnLost::Fail => "end it as lost",
        OnLost::Wait => "wait for the runner",
    };
    page.value("on lost", format!("{lost}; {} at most", count(spec.attempts as usize, "attempt")));
    page.value("variables", spec.env.keys().cloned().collect::<Vec<_>>().join(" "));
}

fn executor_of(executor: Option<&Executor>) -> String {
    match executor.and_then(|executor| executor.kind.as_ref()) {
        None | Some(executor::Kind::Local(_)) => "local".to_owned(),
        Some(executor::Kind::Docker(docker)) => format!("docker {}", docker.image),
        Some(executor::Kind::Ssh(ssh)) => format!("ssh:{}", ssh.target),
    }
}

fn source_of(source: Option<&Source>) -> String {
    match source.and_then(|source| source.kind.as_ref()) {
        None => String::new(),
        Some(source::Kind::Archive(archive)) => format!("archive of {}", bytes(archive.size)),
        Some(source::Kind::Git(git)) if git.r#ref.is_empty() => format!("git {}", git.url),
        Some(source::Kind::Git(git)) => format!("git {} {}", git.url, git.r#ref),
        Some(source::Kind::Workspace(workspace)) => format!("workspace {}", workspace.path),
        Some(source::Kind::Tree(tree)) => format!("folder of {}", bytes(tree.content)),
    }
}

fn limits(resources: &Resources) -> String {
    let mut parts = Vec::new();
    if resources.cpu_millis > 0 {
        parts.push(format!("{:.2} processors", f64::from(resources.cpu_millis) / 1000.0));
    }
    parts.extend((resources.memory > 0).then(|| format!("{} of memory", bytes(resources.memory))));
    parts.extend((resources.processes > 0).then(|| format!("{} processes", resources.processes)));
    parts.extend(
        (resources.open_files > 0).then(|| count(resources.open_files as usize, "open file")),
    );
    parts.join(", ")
}
