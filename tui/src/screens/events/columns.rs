//! The columns of the table of events.

use baton_proto::v1::Event;

use crate::{
    theme::Tone,
    time::short,
    widgets::{cell::Cell, list::Row, table::Column},
};

impl Row for Event {
    fn id(&self) -> &str {
        &self.id
    }

    fn has(&self, text: &str) -> bool {
        let values = [&self.kind, &self.subject, &self.name, &self.by, &self.message];
        values.iter().any(|value| value.to_lowercase().contains(text))
    }

    fn is_problem(&self) -> bool {
        self.warning
    }
}

pub(crate) const COLUMNS: &[Column<Event>] = &[
    Column {
        heading: "TIME",
        min: 8,
        max: 11,
        importance: 7,
        right: false,
        cell: |event, context| {
            Cell::new(short(event.time.as_ref(), context.now, context.zone), Tone::Dim)
        },
    },
    Column {
        heading: "EVENT",
        min: 10,
        max: 20,
        importance: 9,
        right: false,
        cell: |event, context| {
            let (glyph, tone) = if event.warning {
                (context.theme.glyphs.warn, Tone::Bad)
            } else {
                (" ", Tone::Text)
            };
            Cell::new(format!("{glyph} {}", event.kind), tone)
        },
    },
    Column {
        heading: "ABOUT",
        min: 10,
        max: 28,
        importance: 8,
        right: false,
        cell: |event, _| {
            let kind = event.subject.split(':').next().unwrap_or_default();
            let name = if event.name.is_empty() { &event.subject } else { &event.name };
            Cell::from(if event.name.is_empty() { name.clone() } else { format!("{kind} {name}") })
        },
    },
    Column {
        heading: "BY",
        min: 6,
        max: 16,
        importance: 5,
        right: false,
        cell: |event, _| Cell::from(event.by.as_str()),
    },
    Column {
        heading: "MESSAGE",
        min: 16,
        max: 200,
        importance: 6,
        right: false,
        cell: |event, _| Cell::from(event.message.as_str()),
    },
];
