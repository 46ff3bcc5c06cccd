//! Queues.

use baton_proto::v1::{Paused, Queue, QueueName};
use jiff::Timestamp;
use serde::Serialize;

use super::optional_time;

/// Which queue.
#[derive(Debug, Serialize)]
pub(crate) struct QueueNameView {
    pub(crate) project: String,
    pub(crate) labels: Vec<String>,
    pub(crate) executor: String,
}

/// A queue.
#[derive(Debug, Serialize)]
pub(crate) struct QueueView {
    #[serde(flatten)]
    pub(crate) name: QueueNameView,
    pub(crate) queued: u64,
    pub(crate) running: u64,
    pub(crate) oldest_queued: Option<Timestamp>,
    pub(crate) started_per_minute: u64,
    pub(crate) runners: u64,
    pub(crate) paused: Option<PausedView>,
}

/// Who paused a queue.
#[derive(Debug, Serialize)]
pub(crate) struct PausedView {
    pub(crate) by: String,
    pub(crate) since: Option<Timestamp>,
}

/// The longest queues, and how many more there are.
#[derive(Debug, Serialize)]
pub(crate) struct QueuesView {
    pub(crate) queues: Vec<QueueView>,
    pub(crate) more: u64,
}

impl From<&QueueName> for QueueNameView {
    fn from(name: &QueueName) -> Self {
        Self {
            project: name.project.clone(),
            labels: name.labels.clone(),
            executor: name.executor.clone(),
        }
    }
}

impl From<&Queue> for QueueView {
    fn from(queue: &Queue) -> Self {
        Self {
            name: QueueNameView::from(&queue.name.clone().unwrap_or_default()),
            queued: queue.queued,
            running: queue.running,
            oldest_queued: optional_time(queue.oldest_queued.as_ref()),
            started_per_minute: queue.started_per_minute,
            runners: queue.runners,
            paused: queue.paused.as_ref().map(PausedView::from),
        }
    }
}

impl From<&Paused> for PausedView {
    fn from(paused: &Paused) -> Self {
        Self { by: paused.by.clone(), since: optional_time(paused.since.as_ref()) }
    }
}
