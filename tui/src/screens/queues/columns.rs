//! The columns of the table of queues.

use super::state::{Line, requirements};
use crate::{
    theme::Tone,
    time::age,
    widgets::{cell::Cell, table::Column},
};

pub(super) const COLUMNS: &[Column<Line>] = &[
    Column {
        heading: "PROJECT",
        min: 10,
        max: 24,
        importance: 10,
        right: false,
        cell: |line, _| Cell::from(line.name().project),
    },
    Column {
        heading: "REQUIRES",
        min: 10,
        max: 40,
        importance: 6,
        right: false,
        cell: |line, _| Cell::from(requirements(&line.name())),
    },
    Column {
        heading: "QUEUED",
        min: 6,
        max: 9,
        importance: 9,
        right: true,
        cell: |line, _| Cell::new(line.queue.queued.to_string(), Tone::Strong),
    },
    Column {
        heading: "OLDEST",
        min: 6,
        max: 6,
        importance: 8,
        right: true,
        cell: |line, context| Cell::from(age(line.queue.oldest_queued.as_ref(), context.now)),
    },
    Column {
        heading: "RUNNING",
        min: 7,
        max: 9,
        importance: 5,
        right: true,
        cell: |line, _| Cell::new(line.queue.running.to_string(), Tone::Busy),
    },
    Column {
        heading: "PER MIN",
        min: 7,
        max: 9,
        importance: 4,
        right: true,
        cell: |line, _| Cell::from(line.queue.started_per_minute.to_string()),
    },
    Column {
        heading: "RUNNERS",
        min: 7,
        max: 7,
        importance: 3,
        right: true,
        cell: |line, context| match line.queue.runners {
            0 => Cell::new(format!("{} 0", context.theme.glyphs.bad), Tone::Bad),
            runners => Cell::from(runners.to_string()),
        },
    },
    Column {
        heading: "PAUSED",
        min: 10,
        max: 30,
        importance: 7,
        right: false,
        cell: |line, context| match &line.queue.paused {
            Some(paused) => {
                let since = age(paused.since.as_ref(), context.now);
                let glyph = context.theme.glyphs.paused;
                Cell::new(format!("{glyph} {since} by {}", paused.by), Tone::Warn)
            }
            None => Cell::default(),
        },
    },
];
