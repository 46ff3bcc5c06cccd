//! The last line: the keys that matter here, a message, or the line that is being written.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use crate::{
    keys::{Action, in_words},
    model::{
        Model,
        connection::Freshness,
        overlay::{Overlay, Prompt, Purpose},
    },
    screens::Question,
    text::width,
    theme::Tone,
    widgets::cell::{Cell, Line, draw_line},
};

/// Draws the line; says where the cursor is.
pub(super) fn draw(model: &Model, area: Rect, buffer: &mut Buffer) -> Option<(u16, u16)> {
    if let Some(Overlay::Prompt(prompt)) = &model.overlay {
        return draw_prompt(model, prompt, area, buffer);
    }
    let line = match (model.message(), trouble(model)) {
        (Some((text, tone)), _) => vec![Cell::from(" "), Cell::new(text, tone)],
        (None, Some(cause)) => vec![Cell::from(" "), Cell::new(cause, Tone::Bad)],
        (None, None) => keys(model, usize::from(area.width)),
    };
    draw_line(&line, area, buffer, model.theme, Style::new());
    None
}

/// Why nothing is shown that could be.
fn trouble(model: &Model) -> Option<String> {
    match model.connection.freshness(model.now.elapsed) {
        Freshness::Connecting(Some(cause)) => Some(format!("cannot reach the cluster: {cause}")),
        Freshness::Refused(cause) => Some(format!("refused: {cause}")),
        _ => None,
    }
}

/// The keys that can be pressed here, the most important first.
fn keys(model: &Model, room: usize) -> Line {
    let mut line = vec![Cell::from(" ")];
    let mut used = 1;
    let general = [Action::Help, Action::Command, Action::Back, Action::Quit];
    let own = model.screen().kind().actions.iter().copied().filter(|action| model.offers(*action));
    let help = std::iter::once(general[0]);
    for action in help.chain(own).chain(general[1..].iter().copied()) {
        let Some(key) = model.keys.shown(action) else { continue };
        let text = format!(" {}  ", action.about());
        used += width(&key) + width(&text);
        if used > room + 2 {
            break;
        }
        line.push(Cell::new(key, Tone::Key));
        line.push(Cell::new(text, Tone::Dim));
    }
    if !model.pending.is_empty() {
        line.insert(1, Cell::new(format!("{} ", in_words(&model.pending)), Tone::Busy));
    }
    line
}

fn draw_prompt(
    model: &Model,
    prompt: &Prompt,
    area: Rect,
    buffer: &mut Buffer,
) -> Option<(u16, u16)> {
    let label = match &prompt.purpose {
        Purpose::Command => ":".to_owned(),
        Purpose::Filter(_) => "/".to_owned(),
        Purpose::Ask(Question::Priority(_)) => "priority, -100 to 100: ".to_owned(),
        Purpose::Ask(Question::Drain(_)) => "deadline and what then: ".to_owned(),
        Purpose::Ask(Question::Log(_, label, _)) => label.clone(),
    };
    let before = width(&label) + width(&prompt.text[..prompt.cursor]);
    let mut line = vec![Cell::new(label, Tone::Key), Cell::from(prompt.text.as_str())];
    if let Some(error) = &prompt.error {
        line.push(Cell::new(format!("   {error}"), Tone::Bad));
    } else if !prompt.candidates.is_empty() {
        let shown: Vec<&str> = prompt.candidates.iter().map(String::as_str).collect();
        line.push(Cell::new(format!("   {}", shown.join("  ")), Tone::Dim));
    } else if let Purpose::Ask(Question::Drain(_)) = prompt.purpose {
        line.push(Cell::new("   wait, requeue, cancel; empty: no deadline", Tone::Dim));
    }
    // A long line is shown from where its cursor can be seen.
    let room = usize::from(area.width).saturating_sub(1);
    let hidden = before.saturating_sub(room);
    let line = if hidden > 0 { vec![Cell::from(visible(&line, hidden))] } else { line };
    draw_line(&line, area, buffer, model.theme, Style::new());
    let x = area.x + u16::try_from(before - hidden).unwrap_or(0);
    (!area.is_empty()).then_some((x.min(area.right() - 1), area.y))
}

/// The text of `line` without the first columns.
fn visible(line: &[Cell], hidden: usize) -> String {
    let text = crate::widgets::cell::plain(line);
    let mut left_out = 0;
    let rest = text.char_indices().find(|(_, c)| {
        let enough = left_out >= hidden;
        left_out += width(c.encode_utf8(&mut [0; 4]));
        enough
    });
    rest.map(|(at, _)| text[at..].to_owned()).unwrap_or_default()
}
