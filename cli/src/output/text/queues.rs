//! Queues for people.

use jiff::Timestamp;

use super::{Style, age};
use crate::output::{
    table::Table,
    views::{QueueNameView, QueueView},
};

/// A table of queues, as of `now`.
pub(crate) fn queues(queues: &[QueueView], now: Timestamp, style: Style) -> String {
    let mut table = Table::new([
        "PROJECT",
        "EXECUTOR",
        "LABELS",
        "QUEUED",
        "OLDEST",
        "RUNNING",
        "PER MINUTE",
        "RUNNERS",
        "PAUSED",
    ]);
    for queue in queues {
        let paused = queue.paused.as_ref();
        let paused = paused.map(|it| format!("by {}, {}", it.by, age(it.since, now)));
        table.row([
            queue.name.project.clone(),
            queue.name.executor.clone(),
            queue.name.labels.join(","),
            queue.queued.to_string(),
            age(queue.oldest_queued, now),
            queue.running.to_string(),
            queue.started_per_minute.to_string(),
            queue.runners.to_string(),
            paused.unwrap_or_default(),
        ]);
    }
    if let Some(columns) = style.columns {
        table.fit(columns, &["LABELS", "PROJECT"], &["PER MINUTE", "RUNNERS", "OLDEST"]);
    }
    // Nothing else has a space in it.
    table.render(|_, cell| (style.coloured && cell.starts_with("by ")).then_some("\x1b[33m"))
}

/// A queue in a sentence.
pub(crate) fn queue_name(name: &QueueNameView) -> String {
    let QueueNameView { project, labels, executor } = name;
    let labels = match labels.as_slice() {
        [] => String::new(),
        labels => format!(", labels {}", labels.join(",")),
    };
    format!("the queue of {project} (executor {executor}{labels})")
}

#[cfg(test)]
mod tests {
    use baton_proto::v1;

    use super::*;

    #[test]
    fn a_paused_queue_says_by_whom_and_for_how_long() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let ago =
            |seconds| Some(prost_types::Timestamp { seconds: now.as_second() - seconds, nanos: 0 });
        let name = v1::QueueName {
            project: "web".to_owned(),
            labels: vec!["gpu".to_owned(), "os=linux".to_owned()],
            executor: "docker".to_owned(),
        };
        let says = queue_name(&QueueNameView::from(&name));
        assert_eq!(says, "the queue of web (executor docker, labels gpu,os=linux)");
        let queue = v1::Queue {
            name: Some(name),
            queued: 12,
            running: 3,
            oldest_queued: ago(7200),
            started_per_minute: 4,
            runners: 2,
            paused: Some(v1::Paused { by: "ann".to_owned(), since: ago(60) }),
        };
        let table = queues(&[QueueView::from(&queue)], now, Style::default());
        let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        let told = ["web", "docker", "gpu,os=linux", "12", "2h", "3", "4", "2", "by", "ann,", "1m"];
        assert_eq!(row, told);
    }
}
