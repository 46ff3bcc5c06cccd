//! Which lines have a text: as people read them, without the escape sequences that colour them.

use std::borrow::Cow;

use memchr::{memchr, memmem::Finder, memrchr};

const ESCAPE: u8 = 0x1b;
const BELL: u8 = 0x07;

/// Looks for one text. Upper and lower case are alike unless it has upper case.
pub(crate) struct LineMatcher {
    finder: Finder<'static>,
    case: Case,
}

enum Case {
    /// As they are.
    Told,
    /// Alike; the text has no letters but those of ASCII.
    Ascii,
    /// Alike, whatever letters.
    Unicode,
}

impl LineMatcher {
    /// For a text of one line.
    pub(crate) fn new(text: &str) -> Self {
        let case = match text {
            text if text.chars().any(char::is_uppercase) => Case::Told,
            text if text.is_ascii() => Case::Ascii,
            _ => Case::Unicode,
        };
        Self { finder: Finder::new(text.as_bytes()).into_owned(), case }
    }

    /// Where in `block` those of its lines begin that have the text.
    pub(crate) fn lines(&self, block: &[u8]) -> Vec<usize> {
        match self.case {
            Case::Told | Case::Ascii if memchr(ESCAPE, block).is_some() => self.each(block),
            Case::Told => self.all_at_once(block),
            Case::Ascii => self.all_at_once(&block.to_ascii_lowercase()),
            Case::Unicode => self.each(block),
        }
    }

    fn all_at_once(&self, block: &[u8]) -> Vec<usize> {
        let mut lines = Vec::new();
        let mut from = 0;
        while let Some(at) = self.finder.find(&block[from..]).map(|at| from + at) {
            lines.push(memrchr(b'\n', &block[..at]).map_or(0, |end| end + 1));
            match memchr(b'\n', &block[at..]) {
                Some(end) => from = at + end + 1,
                None => break,
            }
        }
        lines
    }

    fn each(&self, block: &[u8]) -> Vec<usize> {
        let mut lines = Vec::new();
        let mut start = 0;
        for line in block.split_inclusive(|byte| *byte == b'\n') {
            if self.has(&without_escapes(line)) {
                lines.push(start);
            }
            start += line.len();
        }
        lines
    }

    fn has(&self, line: &[u8]) -> bool {
        match self.case {
            Case::Told => self.finder.find(line).is_some(),
            Case::Ascii => self.finder.find(&line.to_ascii_lowercase()).is_some(),
            Case::Unicode => {
                let line = String::from_utf8_lossy(line).to_lowercase();
                self.finder.find(line.as_bytes()).is_some()
            }
        }
    }
}

/// The line without what is told to a terminal.
fn without_escapes(line: &[u8]) -> Cow<'_, [u8]> {
    let Some(first) = memchr(ESCAPE, line) else { return Cow::Borrowed(line) };
    let mut text = line[..first].to_vec();
    let mut rest = &line[first..];
    while let Some(at) = memchr(ESCAPE, rest) {
        text.extend_from_slice(&rest[..at]);
        rest = after_escape(&rest[at + 1..]);
    }
    text.extend_from_slice(rest);
    Cow::Owned(text)
}

/// What follows a sequence, of which the first byte is gone.
fn after_escape(rest: &[u8]) -> &[u8] {
    let after = |end: Option<usize>| end.map_or(&rest[rest.len()..], |end| &rest[end + 1..]);
    match rest.first() {
        // A control sequence ends with a letter or the like.
        Some(b'[') => {
            let end = rest.iter().skip(1).position(|byte| matches!(byte, 0x40..=0x7e));
            after(end.map(|end| end + 1))
        }
        // A string ends with a bell, or with ESC \.
        Some(b']' | b'P' | b'X' | b'^' | b'_') => {
            let end = rest.iter().position(|byte| matches!(*byte, BELL | ESCAPE));
            match end.map(|end| &rest[end..]) {
                Some([ESCAPE, b'\\', after @ ..] | [BELL, after @ ..]) => after,
                Some(other) => other,
                None => &[],
            }
        }
        // Others have bytes in between, and a last one.
        Some(_) => after(rest.iter().position(|byte| !matches!(byte, 0x20..=0x2f))),
        None => rest,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str, block: &str) -> Vec<usize> {
        LineMatcher::new(text).lines(block.as_bytes())
    }

    #[test]
    fn each_line_that_has_the_text_is_found_once_where_it_begins() {
        assert_eq!(lines("ab", "ab ab\nxx\ncab\nab"), [0, 9, 13]);
        assert_eq!(lines("ab", "a\nb\n"), []);
        assert_eq!(lines("ab", ""), []);
    }

    #[test]
    fn case_counts_only_for_a_text_with_upper_case() {
        assert_eq!(lines("error", "ERROR\nError\nerror\n"), [0, 6, 12]);
        assert_eq!(lines("Error", "ERROR\nError\nerror\n"), [6]);
        assert_eq!(lines("übel", "ÜBEL\nübel\nubel\n"), [0, 6]);
        assert_eq!(lines("Übel", "ÜBEL\nÜbel\n"), [6]);
    }

    #[test]
    fn a_text_is_found_across_the_sequences_that_colour_it() {
        for coloured in [
            "\x1b[31mer\x1b[0mror\n",
            "er\x1b]8;;http://x\x07ror\n",
            "er\x1b]0;title\x1b\\ror\n",
            "er\x1b(Bror\n",
            "er\x1b7ror\n",
            "\x1b[1;38;5;9mERR\x1b[mOR\n",
        ] {
            assert_eq!(lines("error", coloured), [0], "{coloured:?}");
        }
        assert_eq!(lines("31m", "\x1b[31merror\n"), [], "the sequence itself is none of it");
        assert_eq!(lines("title", "\x1b]0;title"), [], "nor one that has no end");
        assert_eq!(lines("x", "\x1b"), []);
    }
}
