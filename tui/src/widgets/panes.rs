//! Panes side by side: how they share the room, and the frames around them.

use ratatui::{buffer::Buffer, layout::Rect, style::Style};

use super::cell::{Cell, draw_line};
use crate::theme::{Theme, Tone};

/// Below this width one pane is shown at a time.
const ONE_PANE: u16 = 60;
/// From this width on, panes are side by side.
pub(crate) const SIDE_BY_SIDE: u16 = 110;
/// Panes above each other have at least so many lines each.
const STACKED: u16 = 7;

/// Where each of `count` panes is; none for those that are not shown. The one that has the keys
/// is always shown.
pub(crate) fn arrange(area: Rect, count: usize, active: usize, full: bool) -> Vec<Option<Rect>> {
    let mut places = vec![None; count];
    let only_one =
        full || area.width < ONE_PANE || (area.width < SIDE_BY_SIDE && area.height < 2 * STACKED);
    if only_one || count == 1 {
        places[active] = Some(area);
        return places;
    }
    let others: Vec<usize> = (1..count).collect();
    let (first, rest) = if area.width >= SIDE_BY_SIDE {
        let left = area.width * 2 / 5;
        (Rect { width: left, ..area }, Rect { x: area.x + left, width: area.width - left, ..area })
    } else {
        let top = area.height / 2;
        (Rect { height: top, ..area }, Rect { y: area.y + top, height: area.height - top, ..area })
    };
    places[0] = Some(first);
    let fit = usize::from(rest.height / STACKED).max(1);
    let shown: Vec<usize> = if fit >= others.len() { others } else { vec![active.max(1)] };
    let each = rest.height / u16::try_from(shown.len()).unwrap_or(1);
    let mut y = rest.y;
    for (at, pane) in shown.iter().enumerate() {
        let height = if at + 1 == shown.len() { rest.bottom() - y } else { each };
        places[*pane] = Some(Rect { y, height, ..rest });
        y += height;
    }
    places
}

/// What is inside of the frame of a pane.
pub(crate) fn inner(area: Rect) -> Rect {
    Rect {
        x: area.x.saturating_add(1),
        y: area.y.saturating_add(1),
        width: area.width.saturating_sub(2),
        height: area.height.saturating_sub(2),
    }
}

/// Draws the frame of a pane with its title.
pub(crate) fn frame(title: &str, active: bool, area: Rect, buffer: &mut Buffer, theme: Theme) {
    let area = area.intersection(buffer.area);
    if area.width < 2 || area.height < 2 {
        return;
    }
    let [horizontal, vertical, top_left, top_right, bottom_right, bottom_left] = theme.glyphs.lines;
    let tone = if active { Tone::ActiveBorder } else { Tone::Border };
    let style = theme.style(tone);
    let (right, bottom) = (area.right() - 1, area.bottom() - 1);
    for x in area.x..=right {
        buffer.set_string(x, area.y, horizontal, style);
        buffer.set_string(x, bottom, horizontal, style);
    }
    for y in area.y..=bottom {
        buffer.set_string(area.x, y, vertical, style);
        buffer.set_string(right, y, vertical, style);
    }
    for (x, y, corner) in [
        (area.x, area.y, top_left),
        (right, area.y, top_right),
        (right, bottom, bottom_right),
        (area.x, bottom, bottom_left),
    ] {
        buffer.set_string(x, y, corner, style);
    }
    let pointer = if active { theme.glyphs.selected } else { "" };
    let title =
        [Cell::new(format!(" {pointer}{title} "), if active { Tone::Strong } else { Tone::Text })];
    let place = Rect { x: area.x + 1, width: area.width - 2, height: 1, ..area };
    draw_line(&title, place, buffer, theme, Style::new());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_active_pane_is_shown_at_any_size_and_panes_never_overlap() {
        for (width, height) in [(1, 1), (40, 12), (59, 50), (80, 24), (120, 40), (200, 8)] {
            let area = Rect::new(3, 2, width, height);
            for active in 0..4 {
                for full in [false, true] {
                    let places = arrange(area, 4, active, full);
                    assert!(places[active].is_some());
                    let shown: Vec<Rect> = places.into_iter().flatten().collect();
                    let cells: u32 = shown.iter().map(|place| place.area()).sum();
                    assert_eq!(cells, area.area(), "{width}x{height}: {shown:?}");
                }
            }
        }
    }

    #[test]
    fn a_narrow_terminal_has_one_pane_and_a_wide_one_has_two_beside_each_other() {
        let shown = |width, height| {
            arrange(Rect::new(0, 0, width, height), 2, 0, false).into_iter().flatten().count()
        };
        assert_eq!((shown(59, 40), shown(80, 24), shown(120, 10)), (1, 2, 2));
    }
}
