//! Lines as rows of a screen. Only those that are on the screen are broken into rows, so it
//! does not matter how many there are.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation as _;
use unicode_width::UnicodeWidthStr as _;

use super::{
    ansi::Text,
    buffer::{Buffer, Line, Origin},
    filter::Filter,
};

/// A row of a line, from 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: i64,
    pub(super) row: usize,
}

/// The lines that are shown, and how: those of the window that pass the filter, and behind
/// them what is to be said at the end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lines<'a> {
    pub(super) buffer: &'a Buffer,
    pub(super) filter: Option<&'a Filter>,
    pub(super) end: &'a [Line],
    /// Columns for text.
    pub(super) width: usize,
    pub(super) wrap: bool,
}

impl<'a> Lines<'a> {
    pub(super) fn line(&self, number: i64) -> Option<&'a Line> {
        let behind = usize::try_from(number - self.buffer.numbers().end).ok();
        behind.map_or_else(|| self.buffer.line(number), |index| self.end.get(index))
    }

    pub(super) fn text(&self, number: i64) -> Option<Text> {
        self.line(number).map(|line| self.buffer.text(line))
    }

    /// The first line.
    pub(super) fn first(&self) -> i64 {
        self.at_or_after(self.buffer.numbers().start).unwrap_or(self.buffer.numbers().start)
    }

    /// The last line.
    pub(super) fn last(&self) -> i64 {
        let end = self.numbers_end();
        self.before(end).unwrap_or_else(|| self.first())
    }

    /// The line at `number`, or the next one that is shown.
    pub(super) fn at_or_after(&self, number: i64) -> Option<i64> {
        let Range { start, end } = self.buffer.numbers();
        let number = number.max(start);
        let within = match self.filter {
            Some(filter) => filter.at_or_after(number),
            None => (number < end).then_some(number),
        };
        let behind = number.max(end);
        within.or_else(|| (behind < self.numbers_end()).then_some(behind))
    }

    /// The next line that is shown before `number`.
    pub(super) fn before(&self, number: i64) -> Option<i64> {
        let Range { start, end } = self.buffer.numbers();
        let last = number.min(self.numbers_end()) - 1;
        if last >= end {
            return Some(last);
        }
        match self.filter {
            Some(filter) => filter.before(last + 1),
            None => (last >= start).then_some(last),
        }
    }

    /// The place nearest to `place` that is there.
    pub(super) fn nearest(&self, place: Place) -> Place {
        match self.at_or_after(place.line) {
            Some(line) if line == place.line => {
                Place { line, row: place.row.min(self.rows(line).len().saturating_sub(1)) }
            }
            Some(line) => Place { line, row: 0 },
            None => self.last_place(),
        }
    }

    /// So many rows further down, or the last row.
    pub(super) fn down(&self, from: Place, mut rows: usize) -> Place {
        let mut place = self.nearest(from);
        loop {
            let left = self.rows(place.line).len().saturating_sub(place.row + 1);
            if rows <= left {
                return Place { row: place.row + rows, ..place };
            }
            let Some(line) = self.at_or_after(place.line + 1) else {
                return Place { row: place.row + left, ..place };
            };
            rows -= left + 1;
            place = Place { line, row: 0 };
        }
    }

    /// So many rows further up, or the first row.
    pub(super) fn up(&self, from: Place, mut rows: usize) -> Place {
        let mut place = self.nearest(from);
        loop {
            if rows <= place.row {
                return Place { row: place.row - rows, ..place };
            }
            let Some(line) = self.before(place.line) else {
                return Place { row: 0, ..place };
            };
            rows -= place.row + 1;
            place = Place { line, row: self.rows(line).len().saturating_sub(1) };
        }
    }

    /// The first row on a screen that ends with the last one.
    pub(super) fn top_of_last(&self, height: usize) -> Place {
        self.up(self.last_place(), height.saturating_sub(1))
    }

    fn last_place(&self) -> Place {
        let line = self.last();
        Place { line, row: self.rows(line).len().saturating_sub(1) }
    }

    /// What is in each row of a line.
    pub(super) fn rows(&self, number: i64) -> Vec<Range<usize>> {
        self.rows_of(&self.text(number).unwrap_or_default().text)
    }

    /// What is in each row of a line with this text.
    pub(super) fn rows_of(&self, text: &str) -> Vec<Range<usize>> {
        wrap(text, if self.wrap { self.width } else { usize::MAX })
    }

    fn numbers_end(&self) -> i64 {
        self.buffer.numbers().end + i64::try_from(self.end.len()).unwrap_or(i64::MAX)
    }
}

/// A line that is said at the end.
pub(super) fn said(offset: u64, text: &str) -> Line {
    Line::remark(offset, Origin::Mark(text.into()), None)
}

/// Breaks `text` into rows of at most `width` columns; one at least.
fn wrap(text: &str, width: usize) -> Vec<Range<usize>> {
    let mut rows = Vec::new();
    if text.is_ascii() && !text.is_empty() {
        let starts = (0..text.len()).step_by(width);
        rows.extend(starts.map(|start| start..text.len().min(start.saturating_add(width))));
        return rows;
    }
    let (mut start, mut used) = (0, 0);
    for (index, grapheme) in text.grapheme_indices(true) {
        let columns = grapheme.width();
        if used + columns > width && index > start {
            rows.push(start..index);
            (start, used) = (index, 0);
        }
        used += columns;
    }
    rows.push(start..text.len());
    rows
}

/// The part of `text` behind `columns` columns; a letter of two that is cut falls away.
pub(super) fn behind(text: &str, columns: usize) -> usize {
    let mut used = 0;
    for (index, grapheme) in text.grapheme_indices(true) {
        if used >= columns {
            return index;
        }
        used += grapheme.width();
    }
    text.len()
}

#[cfg(test)]
mod tests {
    use baton_proto::v1::{LogPiece, LogStream};
    use proptest::prelude::*;

    use super::*;

    fn buffer(text: &str) -> Buffer {
        let mut buffer = Buffer::default();
        let stream = LogStream::Stdout.into();
        buffer.append(&[LogPiece { stream, data: text.to_owned().into(), ..LogPiece::default() }]);
        buffer
    }

    fn lines(buffer: &Buffer) -> Lines<'_> {
        Lines { buffer, filter: None, end: &[], width: 4, wrap: true }
    }

    fn place(line: i64, row: usize) -> Place {
        Place { line, row }
    }

    #[test]
    fn a_row_has_whole_letters_only() {
        assert_eq!(wrap("abcdef", 4), [0..4, 4..6]);
        assert_eq!(wrap("日本語", 5), [0..6, 6..9]);
        assert_eq!(wrap("日本", 1), [0..3, 3..6]);
        assert_eq!(wrap("", 4).len(), 1);
        assert_eq!(behind("日本語", 3), 6);
        assert_eq!(behind("abc", 5), 3);
    }

    #[test]
    fn one_moves_by_rows_and_stops_at_both_ends() {
        let buffer = buffer("abcdefgh\nx\nabcdef\n");
        let lines = lines(&buffer);
        assert_eq!(lines.down(place(0, 0), 1), place(0, 1));
        assert_eq!(lines.down(place(0, 0), 3), place(2, 0));
        assert_eq!(lines.down(place(0, 0), 100), place(2, 1));
        assert_eq!(lines.up(place(2, 1), 2), place(1, 0));
        assert_eq!(lines.up(place(2, 1), 100), place(0, 0));
        assert_eq!(lines.top_of_last(3), place(1, 0));
        assert_eq!(lines.top_of_last(100), place(0, 0));
    }

    #[test]
    fn a_filter_hides_lines_but_not_what_is_said_at_the_end() {
        let buffer = buffer("a1\nb\na2\n");
        let mut filter = Filter::new(super::super::pattern::Pattern::text("a").unwrap());
        filter.update(&buffer);
        let end = [said(9, "the end")];
        let lines = Lines { filter: Some(&filter), end: &end, ..lines(&buffer) };
        assert_eq!(lines.down(place(0, 0), 1), place(2, 0));
        assert_eq!(lines.down(place(0, 0), 2), place(3, 0));
        assert_eq!(lines.up(place(3, 0), 1), place(2, 0));
        assert_eq!(lines.last(), 3);
    }

    proptest! {
        #[test]
        fn up_is_the_way_back_down(text in "[a-c日\n]{0,60}", rows in 0..40_usize) {
            let buffer = buffer(&text);
            let lines = lines(&buffer);
            let top = place(lines.first(), 0);
            let down = lines.down(top, rows);
            let steps = (0..).take_while(|steps| lines.down(top, *steps) != down).count();
            prop_assert_eq!(lines.up(down, steps), lines.nearest(top));
        }
    }
}
