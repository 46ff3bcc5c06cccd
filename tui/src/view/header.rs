//! The first line: where one is, how the fleet is, and how old all that is shown is.

use ratatui::{buffer::Buffer, layout::Rect};

use crate::{
    keys::Action,
    model::{Model, connection::Freshness},
    screens::KINDS,
    text::count,
    theme::Tone,
    time::span,
    widgets::cell::{Cell, Line, draw_line},
};

/// The line with the screens needs so much.
pub(super) const TABS_WIDTH: u16 = 80;

/// Below this width only the age of old data is told, and not what is done about it.
const WITH_REASON: usize = 36;

pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) {
    let base = model.theme.style(Tone::Bar);
    buffer.set_style(area, base);
    let room = usize::from(area.width);
    // The age of the data comes first: it is never left out.
    let freshness = freshness(model, room);
    let figures = figures(model);
    let place = place(model);
    let width_of = |line: &[Cell]| line.iter().map(Cell::width).sum::<usize>();
    let fresh = width_of(&freshness);
    let with_figures = width_of(&place) + width_of(&figures) + fresh + 2 <= room;
    let mut right = if with_figures { figures } else { Line::new() };
    right.extend(freshness);
    let right_width = width_of(&right).min(room);
    let left = Rect { width: area.width.saturating_sub(to_u16(right_width + 1)), ..area };
    draw_line(&place, left, buffer, model.theme, base);
    let x = area.right().saturating_sub(to_u16(right_width));
    draw_line(&right, Rect { x, width: to_u16(right_width), ..area }, buffer, model.theme, base);
}

fn to_u16(columns: usize) -> u16 {
    u16::try_from(columns).unwrap_or(u16::MAX)
}

/// The screens that lead to this one, as far as they help: the one before, and this one.
fn place(model: &Model) -> Line {
    let mut line = vec![Cell::from(" ")];
    if let Some(before) = model.title_before() {
        line.push(Cell::new(format!("{before} {} ", model.theme.glyphs.into), Tone::Dim));
    }
    line.push(Cell::new(model.screen().title(), Tone::Strong));
    // Where there is little room, this screen's title is all of it.
    if line.iter().map(Cell::width).sum::<usize>() > usize::from(model.size.width) / 2
        && line.len() > 2
    {
        line.remove(1);
    }
    line
}

fn figures(model: &Model) -> Line {
    let Some(overview) = &model.overview else { return Line::new() };
    let glyphs = model.theme.glyphs;
    let mut line = vec![
        Cell::from(format!("{} {} queued  ", glyphs.waiting, overview.queued)),
        Cell::from(format!("{} {} running  ", glyphs.running, overview.running)),
    ];
    if !overview.alerts.is_empty() {
        let text = format!("{} {}  ", glyphs.warn, count(overview.alerts.len(), "alert"));
        line.push(Cell::new(text, Tone::Warn));
    }
    line
}

fn freshness(model: &Model, room: usize) -> Line {
    let glyphs = model.theme.glyphs;
    let mut line = Line::new();
    if let Some(batch) = &model.batch {
        let (all, over) = batch.progress();
        line.push(Cell::new(format!("{over} of {all} done  "), Tone::Busy));
    }
    line.push(match model.connection.freshness(model.now.elapsed) {
        Freshness::Live => Cell::new(format!("{} live ", glyphs.running), Tone::Good),
        Freshness::Loading => Cell::new(format!("{} loading ", glyphs.starting), Tone::Busy),
        Freshness::Connecting(_) => {
            Cell::new(format!("{} connecting ", glyphs.starting), Tone::Warn)
        }
        Freshness::Stale(age) => {
            let what = if room < WITH_REASON { "" } else { "reconnecting, " };
            Cell::new(format!("{} {what}data {} old ", glyphs.bad, span(age)), Tone::Bad)
        }
        Freshness::Refused(_) => Cell::new(format!("{} refused ", glyphs.bad), Tone::Bad),
    });
    line
}

/// Draws the screens with their keys.
pub(super) fn draw_tabs(model: &Model, area: Rect, buffer: &mut Buffer) {
    let current = model.screen().kind();
    let mut line = vec![Cell::from(" ")];
    let actions = Action::ALL.iter().filter(|action| action.screen().is_some());
    for (kind, action) in KINDS.iter().zip(actions) {
        let here = std::ptr::eq(*kind, current);
        let key = model.keys.shown(*action).unwrap_or_default();
        let (key_tone, tone) =
            if here { (Tone::Selected, Tone::Selected) } else { (Tone::Key, Tone::Text) };
        let gap = if key.is_empty() { "" } else { " " };
        line.push(Cell::new(key, key_tone));
        line.push(Cell::new(format!("{gap}{}", kind.title), tone));
        line.push(Cell::from("  "));
    }
    draw_line(&line, area, buffer, model.theme, ratatui::style::Style::new());
}
