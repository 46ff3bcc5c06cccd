//! The columns of the table of members.

use super::state::Line;
use crate::{
    screens::states::percent,
    text::bytes,
    theme::Tone,
    widgets::{cell::Cell, table::Column},
};

pub(super) const COLUMNS: &[Column<Line>] = &[
    Column {
        heading: "MEMBER",
        min: 6,
        max: 6,
        importance: 10,
        right: true,
        cell: |line, _| Cell::from(line.member().node_id.to_string()),
    },
    Column {
        heading: "STATE",
        min: 13,
        max: 13,
        importance: 9,
        right: false,
        cell: |line, context| {
            let glyphs = context.theme.glyphs;
            match (line.status.reachable, line.status.problem.is_empty()) {
                (false, _) => Cell::new(format!("{} unreachable", glyphs.bad), Tone::Bad),
                (true, false) => Cell::new(format!("{} problem", glyphs.warn), Tone::Warn),
                (true, true) => Cell::new(format!("{} reachable", glyphs.good), Tone::Good),
            }
        },
    },
    Column {
        heading: "PART",
        min: 7,
        max: 7,
        importance: 8,
        right: false,
        cell: |line, _| match (line.leads, line.member().voter) {
            (true, _) => Cell::new("leader", Tone::Strong),
            (false, true) => Cell::from("voter"),
            (false, false) => Cell::new("learner", Tone::Dim),
        },
    },
    Column {
        heading: "LAG",
        min: 5,
        max: 9,
        importance: 7,
        right: true,
        cell: |line, _| told(line, line.status.lag.to_string()),
    },
    Column {
        heading: "DISK FREE",
        min: 9,
        max: 22,
        importance: 6,
        right: true,
        cell: |line, _| {
            let (free, total) = (line.status.disk_free, line.status.disk_total);
            told(line, format!("{} ({})", bytes(free), percent(free, total)))
        },
    },
    Column {
        heading: "FILES LACKING",
        min: 7,
        max: 13,
        importance: 3,
        right: true,
        cell: |line, _| {
            let missing = line.status.missing_files;
            told(line, missing.map_or_else(|| "not known".to_owned(), |files| files.to_string()))
        },
    },
    Column {
        heading: "ADDRESS",
        min: 14,
        max: 40,
        importance: 5,
        right: false,
        cell: |line, _| Cell::from(line.member().address),
    },
    Column {
        heading: "VERSION",
        min: 7,
        max: 12,
        importance: 2,
        right: false,
        cell: |line, _| Cell::new(line.member().version, Tone::Dim),
    },
    Column {
        heading: "PROBLEM",
        min: 12,
        max: 120,
        importance: 4,
        right: false,
        cell: |line, _| Cell::new(&line.status.problem, Tone::Warn),
    },
];

/// What only a member that answers can tell.
fn told(line: &Line, text: String) -> Cell {
    if line.status.reachable { Cell::from(text) } else { Cell::default() }
}
