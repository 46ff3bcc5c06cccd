//! The columns of the table of alerts.

use baton_proto::v1::AlertLevel;

use super::state::AlertLine;
use crate::{
    theme::Tone,
    time::age,
    widgets::{cell::Cell, table::Column},
};

pub(super) const COLUMNS: &[Column<AlertLine>] = &[
    Column {
        heading: "LEVEL",
        min: 10,
        max: 10,
        importance: 7,
        right: false,
        cell: |line, context| match line.alert.level() {
            AlertLevel::Critical => {
                Cell::new(format!("{} critical", context.theme.glyphs.bad), Tone::Bad)
            }
            _ => Cell::new(format!("{} warning", context.theme.glyphs.warn), Tone::Warn),
        },
    },
    Column {
        heading: "MESSAGE",
        min: 16,
        max: 200,
        importance: 9,
        right: false,
        cell: |line, _| Cell::from(line.alert.message.as_str()),
    },
    Column {
        heading: "SINCE",
        min: 6,
        max: 6,
        importance: 8,
        right: true,
        cell: |line, context| Cell::from(age(line.alert.since.as_ref(), context.now)),
    },
    Column {
        heading: "ABOUT",
        min: 12,
        max: 34,
        importance: 3,
        right: false,
        cell: |line, _| Cell::new(&line.alert.subject, Tone::Dim),
    },
];
