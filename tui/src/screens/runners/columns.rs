//! The columns of the table of runners.

use baton_proto::v1::Runner;

use crate::{
    screens::states,
    text::bytes,
    theme::Tone,
    time::age,
    widgets::{
        cell::{Cell, plain},
        table::Column,
    },
};

pub(super) const COLUMNS: &[Column<Runner>] = &[
    Column {
        heading: "STATE",
        min: 13,
        max: 13,
        importance: 9,
        right: false,
        cell: |runner, context| states::runner_state(runner, context.theme),
    },
    Column {
        heading: "NAME",
        min: 10,
        max: 32,
        importance: 10,
        right: false,
        cell: |runner, _| Cell::from(runner.name.as_str()),
    },
    Column {
        heading: "SLOTS",
        min: 5,
        max: 9,
        importance: 8,
        right: true,
        cell: |runner, _| {
            let used = runner.leases.len();
            let tone = if used > 0 { Tone::Busy } else { Tone::Text };
            Cell::new(format!("{used}/{}", runner.slots), tone)
        },
    },
    Column {
        heading: "EXECUTORS",
        min: 10,
        max: 28,
        importance: 6,
        right: false,
        cell: |runner, context| {
            let health = runner.health.clone().unwrap_or_default();
            let executors = states::executors(&health, context.theme.glyphs);
            let failing = health.executors.iter().any(|executor| !executor.healthy);
            Cell::new(plain(&executors), if failing { Tone::Bad } else { Tone::Text })
        },
    },
    Column {
        heading: "BEAT",
        min: 6,
        max: 6,
        importance: 7,
        right: true,
        cell: |runner, context| Cell::from(age(runner.last_heartbeat.as_ref(), context.now)),
    },
    Column {
        heading: "LOAD",
        min: 5,
        max: 8,
        importance: 5,
        right: true,
        cell: |runner, _| {
            let health = runner.health.as_ref();
            Cell::from(health.map(|health| format!("{:.1}", health.load)).unwrap_or_default())
        },
    },
    Column {
        heading: "MEM",
        min: 4,
        max: 4,
        importance: 4,
        right: true,
        cell: |runner, _| {
            let health = runner.health.as_ref();
            let used = |total: u64, free: u64| states::percent(total.saturating_sub(free), total);
            let used = health.map(|health| used(health.memory_total, health.memory_available));
            Cell::from(used.unwrap_or_default())
        },
    },
    Column {
        heading: "DISK FREE",
        min: 9,
        max: 10,
        importance: 3,
        right: true,
        cell: |runner, _| {
            let health = runner.health.as_ref().filter(|health| health.disk_total > 0);
            Cell::from(health.map(|health| bytes(health.disk_available)).unwrap_or_default())
        },
    },
    Column {
        heading: "VERSION",
        min: 7,
        max: 12,
        importance: 2,
        right: false,
        cell: |runner, _| Cell::new(&runner.version, Tone::Dim),
    },
    Column {
        heading: "LABELS",
        min: 10,
        max: 40,
        importance: 1,
        right: false,
        cell: |runner, _| Cell::new(runner.labels.join(" "), Tone::Dim),
    },
];
