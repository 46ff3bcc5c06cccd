//! Lines that are longer together than there is room: named values and text, scrolled.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::cell::{Cell, Line, draw_line, plain};
use crate::{
    keys::Action,
    text::{pad, width, wrap},
    theme::{Theme, Tone},
};

/// How wide the names of values are.
const NAMES: usize = 12;

/// What can be said in lines.
#[derive(Clone, Debug, Default)]
pub(crate) struct Page {
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
enum Entry {
    Heading(Cell),
    /// A name, and a value that is wrapped beside it.
    Value(Cell, Line),
    Line(Line),
}

impl Page {
    pub(crate) fn heading(&mut self, text: &str) {
        if !self.entries.is_empty() {
            self.entries.push(Entry::Line(Line::new()));
        }
        self.entries.push(Entry::Heading(Cell::new(text, Tone::Heading)));
    }

    /// `name` with `value`, unless that is empty.
    pub(crate) fn value(&mut self, name: &str, value: impl Into<Cell>) {
        self.values(name, vec![value.into()]);
    }

    pub(crate) fn values(&mut self, name: &str, values: Line) {
        if values.iter().any(|value| !value.text().is_empty()) {
            self.entries.push(Entry::Value(Cell::new(name, Tone::Dim), values));
        }
    }

    pub(crate) fn line(&mut self, line: Line) {
        self.entries.push(Entry::Line(line));
    }

    /// As lines of at most `columns`.
    pub(crate) fn lines(&self, columns: usize) -> Vec<Line> {
        let mut lines = Vec::new();
        for entry in &self.entries {
            match entry {
                Entry::Heading(cell) => lines.push(vec![cell.clone()]),
                Entry::Line(line) if plain(line).is_empty() => lines.push(Line::new()),
                Entry::Line(line) => lines.extend(wrapped(line, columns)),
                Entry::Value(name, values) => {
                    let names = NAMES.max(name.width() + 1).min(columns / 2);
                    let beside = wrapped(values, columns.saturating_sub(names));
                    for (at, line) in beside.into_iter().enumerate() {
                        let shown = if at == 0 { name.text() } else { "" };
                        let mut whole = vec![Cell::new(pad(shown, names, false), Tone::Dim)];
                        whole.extend(line);
                        lines.push(whole);
                    }
                }
            }
        }
        lines
    }

    /// For `--plain`: one line for each entry.
    pub(crate) fn plain(&self) -> Vec<String> {
        let told = |entry: &Entry| match entry {
            Entry::Heading(cell) => cell.text().to_owned(),
            Entry::Value(name, values) if name.text().is_empty() => plain(values),
            Entry::Value(name, values) => format!("{}: {}", name.text(), plain(values)),
            Entry::Line(line) => plain(line),
        };
        self.entries.iter().map(told).collect()
    }
}

/// One line in as many as it needs; where it has several cells, each line has one of them whole.
fn wrapped(line: &[Cell], columns: usize) -> Vec<Line> {
    if line.iter().map(Cell::width).sum::<usize>() <= columns {
        return vec![line.to_vec()];
    }
    let mut lines = vec![Line::new()];
    let mut used = 0;
    for cell in line {
        if used > 0 && used + cell.width() > columns {
            lines.push(Line::new());
            used = 0;
        }
        let text = if used == 0 { cell.text().trim_start() } else { cell.text() };
        for (at, part) in wrap(text, columns.saturating_sub(used)).into_iter().enumerate() {
            if at > 0 {
                lines.push(Line::new());
                used = 0;
            }
            used += width(&part);
            if let Some(last) = lines.last_mut() {
                last.push(Cell::new(part, cell.tone));
            }
        }
    }
    lines
}

/// How far a page is scrolled, as far as is known: there may be fewer lines.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Scroll(usize);

impl Scroll {
    /// Does what the action asks of `lines` lines in a pane of `height`; false where it is none
    /// of its.
    pub(crate) fn act(&mut self, action: Action, lines: usize, height: usize) -> bool {
        let last = lines.saturating_sub(height);
        let half = height.div_ceil(2);
        let at = self.0.min(last);
        self.0 = match action {
            Action::Up => at.saturating_sub(1),
            Action::Down => at + 1,
            Action::HalfUp => at.saturating_sub(half),
            Action::HalfDown => at + half,
            Action::PageUp => at.saturating_sub(height),
            Action::PageDown => at + height,
            Action::Top => 0,
            Action::Bottom => last,
            _ => return false,
        }
        .min(last);
        true
    }

    /// Draws `page` into `area`, with a sign where there is more of it.
    pub(crate) fn draw(self, page: &Page, area: Rect, buffer: &mut Buffer, theme: Theme) {
        let area = area.intersection(buffer.area);
        let lines = page.lines(area.width.into());
        let height = usize::from(area.height);
        let first = self.0.min(lines.len().saturating_sub(height));
        for (y, line) in (area.y..area.bottom()).zip(lines.iter().skip(first)) {
            draw_line(line, Rect { y, height: 1, ..area }, buffer, theme, Style::new());
        }
        if lines.len() > first + height && !area.is_empty() {
            let more = [Cell::new(theme.glyphs.more, Tone::Key)];
            let corner = Rect { x: area.right() - 1, y: area.bottom() - 1, width: 1, height: 1 };
            draw_line(&more, corner, buffer, theme, Style::new());
        }
    }
}
