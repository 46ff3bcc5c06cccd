//! Which lines of the window have a text.

use std::collections::VecDeque;

use super::{buffer::Buffer, pattern::Pattern};

/// The lines that have it, as far as they have ended.
#[derive(Debug)]
pub(super) struct Filter {
    pattern: Pattern,
    /// Their numbers.
    lines: VecDeque<i64>,
    /// The lines that were looked at.
    seen: std::ops::Range<i64>,
}

impl Filter {
    pub(super) fn new(pattern: Pattern) -> Self {
        Self { pattern, lines: VecDeque::new(), seen: 0..0 }
    }

    pub(super) fn pattern(&self) -> &Pattern {
        &self.pattern
    }

    /// How many lines have it.
    pub(super) fn count(&self) -> usize {
        self.lines.len()
    }

    /// Looks at what is new in the window.
    pub(super) fn update(&mut self, buffer: &Buffer) {
        let there = buffer.ended();
        if there.start < self.seen.start || there.start > self.seen.end || there.end < self.seen.end
        {
            self.lines.clear();
            self.seen = there.start..there.start;
        }
        while self.lines.front().is_some_and(|line| *line < there.start) {
            self.lines.pop_front();
        }
        for number in self.seen.end..there.end {
            let text = buffer.line(number).map(|line| buffer.text(line).text);
            if text.is_some_and(|text| self.pattern.is_in(&text)) {
                self.lines.push_back(number);
            }
        }
        self.seen = there;
    }

    pub(super) fn at_or_after(&self, number: i64) -> Option<i64> {
        self.lines.get(self.lines.partition_point(|line| *line < number)).copied()
    }

    pub(super) fn before(&self, number: i64) -> Option<i64> {
        let index = self.lines.partition_point(|line| *line < number).checked_sub(1)?;
        self.lines.get(index).copied()
    }
}
