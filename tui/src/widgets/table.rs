//! Draws a list as a table: only the rows that can be seen, and where there is no room for all
//! columns, the more important ones.

use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
    style::Style,
};

use super::{
    cell::{Cell, draw_line},
    list::{List, Row},
};
use crate::{
    screens::Context,
    text::{fit, pad, width},
    theme::Tone,
};

/// A column of rows `R`.
pub(crate) struct Column<R> {
    pub(crate) heading: &'static str,
    /// Not shown where it has less than `min`; it takes no more than `max`.
    pub(crate) min: usize,
    pub(crate) max: usize,
    /// The least important one goes first when there is no room.
    pub(crate) importance: u8,
    /// Its text stands at the right.
    pub(crate) right: bool,
    pub(crate) cell: fn(&R, &Context<'_>) -> Cell,
}

/// The column for marks and selection.
const GUTTER: usize = 2;
const GAP: usize = 1;

/// How many rows fit into `area`, below the headings.
pub(crate) fn page(area: Rect) -> usize {
    usize::from(area.height.saturating_sub(1))
}

/// The first row that is shown of `len` when `height` fit: the selected one stays in the middle.
fn first_row(at: usize, len: usize, height: usize) -> usize {
    at.saturating_sub(height / 2).min(len.saturating_sub(height))
}

/// How many columns each gets, 0 for those that are left out. `wished` is the widest text of each.
pub(crate) fn fit_columns<R>(columns: &[Column<R>], wished: &[usize], room: usize) -> Vec<usize> {
    let mut kept = vec![true; columns.len()];
    let needed = |kept: &[bool]| {
        let mins = columns.iter().zip(kept).filter(|(_, kept)| **kept);
        mins.map(|(column, _)| column.min + GAP).sum::<usize>().saturating_sub(GAP)
    };
    while needed(&kept) > room && kept.iter().filter(|kept| **kept).count() > 1 {
        let there = columns.iter().enumerate().filter(|(at, _)| kept[*at]);
        let least = there.rev().min_by_key(|(_, column)| column.importance);
        if let Some((at, _)) = least {
            kept[at] = false;
        }
    }
    let mut left = room.saturating_sub(needed(&kept));
    let mut widths: Vec<usize> = columns
        .iter()
        .zip(&kept)
        .map(|(column, kept)| if *kept { column.min.min(room) } else { 0 })
        .collect();
    let mut order: Vec<usize> = (0..columns.len()).filter(|at| kept[*at]).collect();
    order.sort_by_key(|at| std::cmp::Reverse(columns[*at].importance));
    for at in order {
        let more = wished[at].min(columns[at].max).saturating_sub(widths[at]).min(left);
        widths[at] += more;
        left -= more;
    }
    widths
}

/// Draws `list`; `empty` says what it means that it has no rows.
pub(crate) fn draw<R: Row>(
    list: &List<R>,
    columns: &[Column<R>],
    area: Rect,
    buffer: &mut Buffer,
    context: &Context<'_>,
    empty: &str,
) {
    let area = area.intersection(buffer.area);
    if area.is_empty() {
        return;
    }
    let height = page(area);
    let first = first_row(list.at(), list.len(), height);
    let rows: Vec<Vec<Cell>> = list
        .from(first)
        .take(height)
        .map(|row| columns.iter().map(|column| (column.cell)(row, context)).collect())
        .collect();
    let widest = |at: usize| {
        let cells = rows.iter().map(|row| row[at].width());
        cells.max().unwrap_or(0).max(width(columns[at].heading))
    };
    let wished: Vec<usize> = (0..columns.len()).map(widest).collect();
    let room = usize::from(area.width).saturating_sub(GUTTER);
    let widths = fit_columns(columns, &wished, room);
    let headings =
        columns.iter().map(|column| Cell::new(column.heading, Tone::Heading)).collect::<Vec<_>>();
    let line_at = |y: u16| Rect { y: area.y + y, height: 1, ..area };
    let line = arranged(&headings, columns, &widths, context, "  ");
    draw_line(&line, line_at(0), buffer, context.theme, Style::new());
    if rows.is_empty() && area.height > 1 {
        let line = [Cell::from("  "), Cell::new(empty, Tone::Dim)];
        draw_line(&line, line_at(1), buffer, context.theme, Style::new());
    }
    for ((y, row), cells) in (1..).zip(list.from(first)).zip(&rows) {
        let selected = first + usize::from(y) - 1 == list.at();
        let glyphs = context.theme.glyphs;
        let pointer = if selected { glyphs.selected } else { " " };
        let mark = if list.is_marked(row.id()) { glyphs.marked } else { " " };
        let line = arranged(cells, columns, &widths, context, &format!("{pointer}{mark}"));
        let base = if selected { context.theme.style(Tone::Selected) } else { Style::new() };
        buffer.set_style(line_at(y), base);
        draw_line(&line, line_at(y), buffer, context.theme, base);
    }
}

/// The cells of one row below their headings.
fn arranged<R>(
    cells: &[Cell],
    columns: &[Column<R>],
    widths: &[usize],
    context: &Context<'_>,
    gutter: &str,
) -> Vec<Cell> {
    let mut line = vec![Cell::new(gutter, Tone::Key)];
    for ((cell, column), columns) in cells.iter().zip(columns).zip(widths) {
        if *columns > 0 {
            let text = fit(cell.text(), *columns, context.theme.glyphs.more);
            line.push(Cell::new(pad(&text, *columns, column.right), cell.tone));
            line.push(Cell::from(" "));
        }
    }
    line.pop();
    line
}

/// Which of the rows shown is at `position`.
pub(crate) fn hit<R: Row>(list: &List<R>, area: Rect, position: Position) -> Option<usize> {
    let below = position.y.checked_sub(area.y.saturating_add(1))?;
    let at = first_row(list.at(), list.len(), page(area)) + usize::from(below);
    (area.contains(position) && at < list.len()).then_some(at)
}

/// The whole table as lines, every column whole.
pub(crate) fn lines<R: Row>(
    list: &List<R>,
    columns: &[Column<R>],
    context: &Context<'_>,
) -> Vec<String> {
    let headings = columns.iter().map(|column| column.heading.to_owned()).collect();
    let mut rows: Vec<Vec<String>> = vec![headings];
    rows.extend(list.from(0).map(|row| {
        columns.iter().map(|column| (column.cell)(row, context).text().to_owned()).collect()
    }));
    let widest = |at: usize| rows.iter().map(|row| width(&row[at])).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns.len()).map(widest).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(columns).zip(&widths);
        let cells = cells.map(|((text, column), columns)| pad(text, *columns, column.right));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(min: usize, max: usize, importance: u8) -> Column<String> {
        let cell = |row: &String, _: &Context<'_>| Cell::from(row.as_str());
        Column { heading: "", min, max, importance, right: false, cell }
    }

    #[test]
    fn columns_are_dropped_by_importance_and_the_rest_is_shared() {
        let columns = [column(4, 20, 9), column(6, 6, 1), column(5, 30, 5)];
        let wished = [10, 6, 30];
        assert_eq!(fit_columns(&columns, &wished, 60), [10, 6, 30]);
        assert_eq!(fit_columns(&columns, &wished, 30), [10, 6, 12]);
        assert_eq!(fit_columns(&columns, &wished, 17), [4, 6, 5]);
        assert_eq!(fit_columns(&columns, &wished, 16), [10, 0, 5]);
        assert_eq!(fit_columns(&columns, &wished, 9), [9, 0, 0]);
        assert_eq!(fit_columns(&columns, &wished, 2), [2, 0, 0]);
        assert_eq!(fit_columns(&columns, &wished, 0), [0, 0, 0]);
    }

    #[test]
    fn the_selected_row_can_always_be_seen() {
        for (at, len, height) in [(0, 100, 10), (50, 100, 10), (99, 100, 10), (3, 4, 10), (5, 9, 1)]
        {
            let first = first_row(at, len, height);
            assert!(first <= at && at < first + height, "{at} of {len} in {height}");
        }
    }
}
