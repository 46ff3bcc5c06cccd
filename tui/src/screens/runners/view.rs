//! Draws runners; on a wide terminal with the selected one beside them.

use baton_proto::v1::Runner;
use ratatui::{buffer::Buffer, layout::Rect};

use super::{COLUMNS, state::Runners};
use crate::{
    screens::{Context, states},
    text::bytes,
    theme::Tone,
    time::{age, full},
    widgets::{
        cell::Cell,
        page::{Page, Scroll},
        panes, table,
    },
};

const DETAILS: u16 = 44;

/// Where the list is, and the details if they have room.
pub(super) fn places(body: Rect) -> (Rect, Option<Rect>) {
    if body.width < panes::SIDE_BY_SIDE {
        return (body, None);
    }
    let list = Rect { width: body.width - DETAILS, ..body };
    (list, Some(Rect { x: list.right(), width: DETAILS, ..body }))
}

impl Runners {
    pub(super) fn view(&self, buffer: &mut Buffer, context: &Context<'_>) {
        let (list, details) = places(context.body);
        let limited = !self.list.filter().is_empty() || self.list.shows_problems_only();
        let empty = if limited { "no runner is so; esc shows all" } else { "no runners yet" };
        table::draw(&self.list, COLUMNS, list, buffer, context, context.empty(empty));
        if let Some((runner, area)) = self.list.selected().zip(details) {
            panes::frame("Selected", false, area, buffer, context.theme);
            let page = health_of(runner, context);
            Scroll::default().draw(&page, panes::inner(area), buffer, context.theme);
        }
    }
}

/// Everything about how a runner is.
pub(in crate::screens) fn health_of(runner: &Runner, context: &Context<'_>) -> Page {
    let mut page = Page::default();
    let now = context.now;
    page.line(vec![Cell::new(&runner.name, Tone::Strong)]);
    let since = age(runner.changed_at.as_ref(), now);
    let for_so_long = if since.is_empty() { since } else { format!(" for {since}") };
    let state = states::runner_state(runner, context.theme);
    page.values("state", vec![state, Cell::new(for_so_long, Tone::Dim)]);
    page.value("gets jobs", scheduling(runner, context));
    for unhealthy in &runner.unhealthy {
        let since = age(unhealthy.since.as_ref(), now);
        let text = format!("{}: {} (for {since})", unhealthy.name, unhealthy.problem);
        page.value("no jobs to", Cell::new(text, Tone::Bad));
    }
    page.value("slots", format!("{} of {} used", runner.leases.len(), runner.slots));
    page.value("heartbeat", ago(age(runner.last_heartbeat.as_ref(), now)));
    if let Some(health) = &runner.health {
        page.value("load", format!("{:.2} on {} processors", health.load, health.cpus));
        page.value("memory", free(health.memory_available, health.memory_total));
        page.value("disk", free(health.disk_available, health.disk_total));
        page.value("problem", Cell::new(&health.problem, Tone::Bad));
        page.values("executors", states::executors(health, context.theme.glyphs));
        for executor in health.executors.iter().filter(|executor| executor.failures > 0) {
            let text = format!("{}: {}", executor.name, executor.problem);
            page.value("  failed", Cell::new(text, Tone::Warn));
        }
    }
    page.value("labels", runner.labels.join(" "));
    page.value("granted", runner.granted_labels.join(" "));
    page.value("hidden", runner.hidden_labels.join(" "));
    page.value("version", runner.version.as_str());
    page.value("id", runner.id.as_str());
    page.value("since", full(runner.registered_at.as_ref(), context.zone));
    page.value("kind", if runner.ephemeral { "ephemeral: takes one job" } else { "" });
    page
}

fn ago(age: String) -> String {
    if age.is_empty() { age } else { format!("{age} ago") }
}

fn free(available: u64, total: u64) -> String {
    if total == 0 {
        return String::new();
    }
    format!("{} of {} free", bytes(available), bytes(total))
}

/// Why it is given no jobs, where somebody wants that.
fn scheduling(runner: &Runner, context: &Context<'_>) -> Cell {
    let Some(scheduling) = runner.scheduling.as_ref().filter(|_| states::is_cordoned(runner))
    else {
        return Cell::default();
    };
    let mut text = "no".to_owned();
    if !scheduling.by.is_empty() {
        text += &format!(", says {}", scheduling.by);
    }
    if let Some(deadline) = &scheduling.deadline {
        let then = states::at_deadline(scheduling.then());
        text += &format!("; drains until {}, then {then}", full(Some(deadline), context.zone));
    }
    Cell::new(text, Tone::Warn)
}
