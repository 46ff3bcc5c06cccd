//! Finds base64 that is broken into lines, of whatever width: where a line ends in what may
//! be the beginning of a value, the search goes on over its end as if there was none.
//!
//! Not at the end of any line: else the last letter of many would be held back for what
//! comes after it. Either the whole line is base64, or so much of its end that a text
//! before it can be told from a word.

use aho_corasick::automaton::StateID;

use super::patterns::Patterns;

/// How many digits make base64 of the end of a line with other things in it.
const ENOUGH: usize = 16;

/// Where the search is.
#[derive(Clone, Copy, Debug)]
pub(super) struct OverLines {
    /// That of the digits alone; the first one while nothing goes over the end of a line.
    state: StateID,
    /// How many digits stand before what is held, at most [`ENOUGH`]; as many where a line
    /// begins.
    before: usize,
}

impl OverLines {
    pub(super) const fn new(patterns: &Patterns) -> Self {
        Self { state: patterns.start, before: ENOUGH }
    }

    pub(super) fn is_active(&self, patterns: &Patterns) -> bool {
        self.state != patterns.start
    }

    /// Takes the `byte` of a line's end after what is `held`, in which values may begin
    /// from `begun` on.
    pub(super) fn end_line(&mut self, patterns: &Patterns, byte: u8, held: &[u8], begun: usize) {
        let goes_on = match held.last() {
            Some(b'\r') => byte == b'\n',
            // An empty line ends base64.
            Some(b'\n') | None => false,
            Some(_) => digits(held, self.before) == ENOUGH,
        };
        if !goes_on {
            self.state = patterns.start;
        } else if !self.is_active(patterns) {
            for byte in &held[begun..] {
                self.state = patterns.next(self.state, *byte);
            }
        }
    }

    /// Takes a `byte` that ends no line after what is `held`. Gives the length of the longest
    /// pattern that ends with it, with the ends of lines.
    pub(super) fn go_on(&mut self, patterns: &Patterns, byte: u8, held: &[u8]) -> Option<usize> {
        if held.last() == Some(&b'\r') {
            self.state = patterns.start;
            return None;
        }
        self.state = patterns.next(self.state, byte);
        patterns.longest_match(self.state).map(|digits| length(held, digits - 1) + 1)
    }

    /// How many of the `held` bytes may be the beginning of a pattern.
    pub(super) fn begun(&self, patterns: &Patterns, held: &[u8]) -> usize {
        length(held, patterns.depth(self.state))
    }

    /// These bytes are held no longer.
    pub(super) fn release(&mut self, bytes: &[u8]) {
        self.before = digits(bytes, self.before);
    }
}

pub(super) const fn is_line_end(byte: u8) -> bool {
    matches!(byte, b'\r' | b'\n')
}

/// How many digits end the line so far, at most [`ENOUGH`]; as many when it has nothing else.
fn digits(bytes: &[u8], before: usize) -> usize {
    for (count, byte) in (0..ENOUGH).zip(bytes.iter().rev()) {
        match byte {
            b'\n' => return ENOUGH,
            b'+' | b'/' | b'-' | b'_' => {}
            byte if byte.is_ascii_alphanumeric() => {}
            _ => return count,
        }
    }
    ENOUGH.min(before + bytes.len())
}

/// How many bytes at the end have so many besides the ends of lines.
fn length(bytes: &[u8], digits: usize) -> usize {
    let others = (1..).zip(bytes.iter().rev()).filter(|(_, byte)| !is_line_end(**byte));
    let mut lengths = others.map(|(length, _)| length);
    digits.checked_sub(1).and_then(|more| lengths.nth(more)).unwrap_or_default()
}
