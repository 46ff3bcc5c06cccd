//! The columns of a table of jobs.

use baton_proto::v1::JobSummary;

use crate::{
    screens::{Context, states},
    theme::Tone,
    time::{age, between, span, timestamp},
    widgets::{cell::Cell, list::Row, table::Column},
};

impl Row for JobSummary {
    fn id(&self) -> &str {
        &self.id
    }

    fn has(&self, text: &str) -> bool {
        [&self.name, &self.project, &self.id]
            .iter()
            .any(|value| value.to_lowercase().contains(text))
    }

    fn is_problem(&self) -> bool {
        states::FAILED.contains(&self.state())
    }
}

pub(crate) const COLUMNS: &[Column<JobSummary>] = &[
    Column {
        heading: "STATE",
        min: 11,
        max: 11,
        importance: 9,
        right: false,
        cell: |job, context| states::job_state(job.state(), job.cancelling, context.theme),
    },
    Column {
        heading: "NAME",
        min: 12,
        max: 48,
        importance: 10,
        right: false,
        cell: |job, _| Cell::from(job.name.as_str()),
    },
    Column {
        heading: "PROJECT",
        min: 8,
        max: 20,
        importance: 5,
        right: false,
        cell: |job, _| Cell::from(job.project.as_str()),
    },
    Column {
        heading: "AGE",
        min: 6,
        max: 6,
        importance: 7,
        right: true,
        cell: |job, context| Cell::new(age(job.submitted_at.as_ref(), context.now), Tone::Dim),
    },
    Column {
        heading: "TOOK",
        min: 6,
        max: 6,
        importance: 6,
        right: true,
        cell: |job, context| Cell::from(took(job, context)),
    },
    Column {
        heading: "RUNNER",
        min: 8,
        max: 20,
        importance: 4,
        right: false,
        cell: |job, _| Cell::from(job.runner_name.as_str()),
    },
    Column {
        heading: "WHY",
        min: 8,
        max: 24,
        importance: 3,
        right: false,
        cell: |job, _| Cell::new(why(job), Tone::Dim),
    },
    Column {
        heading: "PRIO",
        min: 4,
        max: 4,
        importance: 2,
        right: true,
        cell: |job, _| {
            Cell::new(
                if job.priority == 0 { String::new() } else { job.priority.to_string() },
                Tone::Dim,
            )
        },
    },
    Column {
        heading: "ID",
        min: 26,
        max: 26,
        importance: 1,
        right: false,
        cell: |job, _| Cell::new(&job.id, Tone::Dim),
    },
];

/// How long its process ran, or runs.
pub(super) fn took(job: &JobSummary, context: &Context<'_>) -> String {
    let from = timestamp(job.started_at.as_ref());
    let to = timestamp(job.finished_at.as_ref()).unwrap_or(context.now);
    from.map(|from| span(between(from, to))).unwrap_or_default()
}

/// In a few words, how it ended.
pub(super) fn why(job: &JobSummary) -> String {
    let mut parts = Vec::new();
    parts.extend(job.exit_code.filter(|code| *code != 0).map(|code| format!("exit {code}")));
    parts.extend((!job.reason.is_empty()).then(|| job.reason.clone()));
    parts.extend(job.dead_letter.then(|| "dead letter".to_owned()));
    parts.extend((job.attempts > 1).then(|| format!("attempt {}", job.attempts)));
    parts.join(", ")
}
