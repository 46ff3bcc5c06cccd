//! The columns of the table of checks.

use super::state::Check;
use crate::{
    screens::states,
    text::bytes,
    theme::Tone,
    time::short,
    widgets::{
        cell::{Cell, plain},
        table::Column,
    },
};

pub(super) const COLUMNS: &[Column<Check>] = &[
    Column {
        heading: "TIME",
        min: 8,
        max: 11,
        importance: 9,
        right: false,
        cell: |check, context| {
            let time = short(check.health.time.as_ref(), context.now, context.zone);
            Cell::new(time, Tone::Dim)
        },
    },
    Column {
        heading: "EXECUTORS",
        min: 10,
        max: 30,
        importance: 8,
        right: false,
        cell: |check, context| {
            let executors = states::executors(&check.health, context.theme.glyphs);
            let failing = check.health.executors.iter().any(|executor| executor.failures > 0);
            Cell::new(plain(&executors), if failing { Tone::Warn } else { Tone::Good })
        },
    },
    Column {
        heading: "LOAD",
        min: 5,
        max: 8,
        importance: 6,
        right: true,
        cell: |check, _| Cell::from(format!("{:.1}", check.health.load)),
    },
    Column {
        heading: "MEM",
        min: 4,
        max: 4,
        importance: 5,
        right: true,
        cell: |check, _| {
            let (total, free) = (check.health.memory_total, check.health.memory_available);
            Cell::from(states::percent(total.saturating_sub(free), total))
        },
    },
    Column {
        heading: "DISK FREE",
        min: 9,
        max: 10,
        importance: 4,
        right: true,
        cell: |check, _| Cell::from(bytes(check.health.disk_available)),
    },
    Column {
        heading: "PROBLEM",
        min: 10,
        max: 120,
        importance: 7,
        right: false,
        cell: |check, _| {
            let executors = check.health.executors.iter().filter(|it| it.failures > 0);
            let mut problems = vec![check.health.problem.clone()];
            problems.extend(executors.map(|it| format!("{}: {}", it.name, it.problem)));
            problems.retain(|problem| !problem.is_empty());
            Cell::new(problems.join("; "), Tone::Warn)
        },
    },
];
