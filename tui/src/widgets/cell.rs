//! A piece of text with a meaning, and lines of them.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use crate::{
    text::{clean, fit, width},
    theme::{Theme, Tone},
};

/// Clean text, and what it means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    pub(crate) tone: Tone,
}

/// What is drawn on one line.
pub(crate) type Line = Vec<Cell>;

impl Cell {
    pub(crate) fn new(text: impl AsRef<str>, tone: Tone) -> Self {
        Self { text: clean(text.as_ref()).into_owned(), tone }
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    pub(crate) fn width(&self) -> usize {
        width(&self.text)
    }
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::new(text, Tone::Text)
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::new(text, Tone::Text)
    }
}

/// The text of a line.
pub(crate) fn plain(line: &[Cell]) -> String {
    line.iter().map(Cell::text).collect::<String>().trim_end().to_owned()
}

/// Draws `line` from the left of `area` on its first line, on top of `base`.
pub(crate) fn draw_line(line: &[Cell], area: Rect, buffer: &mut Buffer, theme: Theme, base: Style) {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    let mut left = usize::from(area.width);
    let mut x = area.x;
    let total: usize = line.iter().map(Cell::width).sum();
    let mut cut = total > left;
    for cell in line {
        let last = cell.width() > left || (cut && cell.width() == left);
        let text = fit(&cell.text, left, theme.glyphs.more);
        let text = theme.shown(&text);
        cut &= !last;
        x = buffer.set_stringn(x, area.y, &text, left, base.patch(theme.style(cell.tone))).0;
        left = usize::from(area.right().saturating_sub(x));
        if left == 0 || last {
            break;
        }
    }
}
