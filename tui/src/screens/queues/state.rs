//! The queues that are known.

use baton_proto::v1::{Queue, QueueName, WatchFleetRequest};

use crate::{
    event::{News, Wants},
    widgets::list::{List, Row},
};

#[derive(Debug, Default)]
pub(crate) struct Queues {
    pub(super) list: List<Line>,
    /// How many there are beside those in the list.
    more: u64,
}

/// A queue, and its name as one text.
#[derive(Debug)]
pub(crate) struct Line {
    id: String,
    pub(super) queue: Queue,
}

impl Row for Line {
    fn id(&self) -> &str {
        &self.id
    }

    fn has(&self, text: &str) -> bool {
        self.id.to_lowercase().contains(text)
    }

    /// Paused, or nobody is there who could take its jobs.
    fn is_problem(&self) -> bool {
        self.queue.paused.is_some() || (self.queue.runners == 0 && self.queue.queued > 0)
    }
}

impl Line {
    pub(super) fn name(&self) -> QueueName {
        self.queue.name.clone().unwrap_or_default()
    }
}

/// What a queue's jobs require, as one text.
pub(super) fn requirements(name: &QueueName) -> String {
    let executor = if name.executor.is_empty() { "local" } else { &name.executor };
    let mut parts = vec![executor];
    parts.extend(name.labels.iter().map(String::as_str));
    parts.join(" ")
}

impl Queues {
    pub(super) fn title(&self) -> String {
        let mut parts = vec!["Queues".to_owned()];
        parts.extend((self.more > 0).then(|| format!("(and {} more)", self.more)));
        parts.extend((!self.list.filter().is_empty()).then(|| format!("/{}", self.list.filter())));
        parts.extend(self.list.shows_problems_only().then(|| "problems only".to_owned()));
        parts.extend((self.list.marked() > 0).then(|| format!("({} marked)", self.list.marked())));
        parts.join(" ")
    }

    pub(super) fn wants(&self) -> Wants {
        let fleet = WatchFleetRequest { queues: true, ..WatchFleetRequest::default() };
        Wants { fleet, ..Wants::default() }
    }

    pub(super) fn fold(&mut self, news: &News) {
        let News::Fleet(update) = news else { return };
        let Some(queues) = &update.queues else { return };
        self.more = queues.more;
        let line = |queue: &Queue| {
            let name = queue.name.clone().unwrap_or_default();
            Line { id: format!("{} {}", name.project, requirements(&name)), queue: queue.clone() }
        };
        self.list.change(|rows| *rows = queues.queues.iter().map(line).collect());
    }
}
