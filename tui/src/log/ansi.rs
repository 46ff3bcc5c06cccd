//! What a job wrote, as text that may be shown: colours and the like are kept, every other
//! control sequence is taken out. A job's output is hostile: after this nothing in it can do
//! anything to a terminal, or hide.
//!
//! A line is complete when it comes here, or shown as far as it has come; so nothing but the
//! look is carried from one to the next, and an unfinished sequence ends with its line.

use std::ops::Range;

use unicode_width::UnicodeWidthChar as _;
use vte::{Params, Parser, Perform};

use super::sgr::Sgr;
use crate::text::is_hostile;

/// Stands for what cannot or must not be shown.
const REPLACEMENT: char = char::REPLACEMENT_CHARACTER;
const TAB: usize = 8;
/// More marks than this on one letter are a prank, and slow to draw.
const MARKS: usize = 4;

/// A line without control characters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Text {
    /// What there is to read.
    pub(crate) text: String,
    /// From which byte of it on it looks like what; where none begins, as it is by default.
    pub(crate) runs: Vec<(usize, Sgr)>,
}

impl Text {
    /// Text that looks like nothing special; `text` must be known to have no control characters.
    pub(crate) fn plain(text: impl Into<String>) -> Self {
        Self { text: text.into(), runs: Vec::new() }
    }

    /// How the bytes in `range` look, piece by piece.
    pub(crate) fn looks(&self, range: Range<usize>) -> impl Iterator<Item = (Range<usize>, Sgr)> {
        let first = self.runs.partition_point(|(from, _)| *from <= range.start);
        let look = first.checked_sub(1).and_then(|index| self.runs.get(index));
        let mut at = (range.start, look.map_or_else(Sgr::default, |(_, sgr)| *sgr));
        let mut following =
            self.runs.iter().skip(first).take_while(move |(from, _)| *from < range.end);
        let mut done = range.is_empty();
        std::iter::from_fn(move || {
            if done {
                return None;
            }
            let (from, sgr) = at;
            let to = match following.next() {
                Some(next) => {
                    at = *next;
                    next.0
                }
                None => {
                    done = true;
                    range.end
                }
            };
            Some((from..to, sgr))
        })
    }
}

/// Makes text of a line, without its end, that begins to look like `sgr`; returns what it
/// looks like at its end too.
pub(crate) fn text(line: &[u8], sgr: Sgr) -> (Text, Sgr) {
    let mut painter = Painter { sgr, ..Painter::default() };
    let mut parser = Parser::new();
    if line.is_ascii() {
        parser.advance(&mut painter, line);
    } else {
        for chunk in line.utf8_chunks() {
            advance_valid(&mut parser, &mut painter, chunk.valid());
            match *chunk.invalid() {
                [] => {}
                [byte @ 0x80..=0x9f] => advance_c1(&mut parser, &mut painter, byte),
                _ => parser.advance(&mut painter, "\u{fffd}".as_bytes()),
            }
        }
    }
    (Text { text: painter.text, runs: painter.runs }, painter.sgr)
}

/// What text after `line` looks like that began to look like `sgr`.
pub(crate) fn look_after(line: &[u8], sgr: Sgr) -> Sgr {
    let has_sequence = memchr::memchr3(0x1b, 0x9b, 0xc2, line).is_some();
    if has_sequence { text(line, sgr).1 } else { sgr }
}

fn advance_valid(parser: &mut Parser, painter: &mut Painter, text: &str) {
    let mut rest = text;
    while let Some(at) = rest.find(|char| matches!(char, '\u{80}'..='\u{9f}')) {
        let (before, from) = rest.split_at(at);
        parser.advance(painter, before.as_bytes());
        let mut chars = from.chars();
        if let Some(byte) = chars.next().and_then(|char| u8::try_from(u32::from(char)).ok()) {
            advance_c1(parser, painter, byte);
        }
        rest = chars.as_str();
    }
    parser.advance(painter, rest.as_bytes());
}

/// A control of eight bits is short for two of seven, which is all that the parser knows.
fn advance_c1(parser: &mut Parser, painter: &mut Painter, byte: u8) {
    parser.advance(painter, &[0x1b, byte - 0x40]);
}

#[derive(Default)]
struct Painter {
    text: String,
    runs: Vec<(usize, Sgr)>,
    sgr: Sgr,
    /// The look of the last run.
    painted: Sgr,
    column: usize,
    marks: usize,
    /// What comes next replaces the line.
    returned: bool,
}

impl Painter {
    fn push(&mut self, char: char) {
        if std::mem::take(&mut self.returned) {
            self.text.clear();
            self.runs.clear();
            self.painted = Sgr::default();
            self.column = 0;
        }
        if self.painted != self.sgr {
            self.painted = self.sgr;
            self.runs.push((self.text.len(), self.sgr));
        }
        self.text.push(char);
    }

    fn take_back(&mut self) {
        let Some(last) = self.text.pop() else { return };
        self.column = self.column.saturating_sub(last.width().unwrap_or(0));
        while self.runs.last().is_some_and(|(from, _)| *from >= self.text.len()) {
            self.runs.pop();
        }
        self.painted = self.runs.last().map_or_else(Sgr::default, |(_, sgr)| *sgr);
    }
}

impl Perform for Painter {
    fn print(&mut self, char: char) {
        if char == '\x7f' {
            return;
        }
        let char = if is_hostile(char) { REPLACEMENT } else { char };
        let width = char.width().unwrap_or(0);
        self.marks = if width == 0 { self.marks + 1 } else { 0 };
        if self.marks > MARKS {
            return;
        }
        self.push(char);
        self.column += width;
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\t' => {
                for _ in 0..TAB - self.column % TAB {
                    self.print(' ');
                }
            }
            b'\r' => self.returned = true,
            0x08 if !self.returned => self.take_back(),
            _ => {}
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], ignore: bool, action: char) {
        if action == 'm' && intermediates.is_empty() && !ignore {
            self.sgr.apply(params);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{super::sgr::Colour, *};

    fn shown(line: &[u8]) -> String {
        text(line, Sgr::default()).0.text
    }

    fn looks(line: &[u8]) -> Vec<(String, Sgr)> {
        let (text, _) = text(line, Sgr::default());
        text.looks(0..text.text.len())
            .map(|(range, sgr)| (text.text[range].to_owned(), sgr))
            .collect()
    }

    fn flagged(flags: u8) -> Sgr {
        Sgr { flags, ..Sgr::default() }
    }

    fn coloured(foreground: Colour) -> Sgr {
        Sgr { foreground, ..Sgr::default() }
    }

    #[test]
    fn colours_of_all_three_kinds_are_kept() {
        for (line, colour) in [
            (&b"\x1b[31mx"[..], Colour::Indexed(1)),
            (b"\x1b[97mx", Colour::Indexed(15)),
            (b"\x1b[38;5;200mx", Colour::Indexed(200)),
            (b"\x1b[38:5:200mx", Colour::Indexed(200)),
            (b"\x1b[38;2;1;2;3mx", Colour::Rgb(1, 2, 3)),
            (b"\x1b[38:2:1:2:3mx", Colour::Rgb(1, 2, 3)),
            (b"\x1b[38:2::1:2:3mx", Colour::Rgb(1, 2, 3)),
            (b"\x1b[31;39mx", Colour::Default),
            (b"\x1b[31;mx", Colour::Default),
            (b"\x9b31mx", Colour::Indexed(1)),
            ("\u{9b}31mx".as_bytes(), Colour::Indexed(1)),
        ] {
            assert_eq!(looks(line), [("x".to_owned(), coloured(colour))], "{line:?}");
        }
        let background = Sgr { background: Colour::Indexed(12), ..Sgr::default() };
        assert_eq!(looks(b"\x1b[104mx"), [("x".to_owned(), background)]);
    }

    #[test]
    fn attributes_are_kept_and_each_reset() {
        let line = b"\x1b[1;2;3;4;7;9mall\x1b[22mthin\x1b[23;24;27;29mnone";
        let all = Sgr::BOLD | Sgr::DIM | Sgr::ITALIC | Sgr::UNDERLINE | Sgr::REVERSE | Sgr::STRIKE;
        assert_eq!(
            looks(line),
            [
                ("all".to_owned(), flagged(all)),
                ("thin".to_owned(), flagged(all & !(Sgr::BOLD | Sgr::DIM))),
                ("none".to_owned(), Sgr::default()),
            ]
        );
        assert_eq!(looks(b"\x1b[8;5mhidden"), [("hidden".to_owned(), Sgr::default())]);
    }

    #[test]
    fn the_look_goes_on_on_the_next_line() {
        let (_, after) = text(b"\x1b[1mbold", Sgr::default());
        assert_eq!(after, flagged(Sgr::BOLD));
        assert_eq!(text(b"still", after).0.runs, [(0, flagged(Sgr::BOLD))]);
        assert_eq!(look_after(b"plain", after), after);
        assert_eq!(look_after(b"\x1b[m", after), Sgr::default());
    }

    #[test]
    fn every_other_sequence_is_taken_out() {
        for line in [
            &b"a\x1b[2J\x1b[Hb"[..],
            b"a\x1b[?1049hb",
            b"a\x1b[6nb",
            b"a\x1b]0;title\x07b",
            b"a\x1b]52;c;aGk=\x1b\\b",
            b"a\x9d52;c;aGk=\x9cb",
            "a\u{9d}52;c;aGk=\u{9c}b".as_bytes(),
            b"a\x1bPq#0\x1b\\b",
            b"a\x1b_apc\x1b\\b",
            b"a\x1b^pm\x1b\\b",
            b"a\x1bXsos\x1b\\b",
            b"a\x90q\x9cb",
            b"a\x9fapc\x9cb",
            b"a\x1bcb",
            b"a\x1b(0b",
            b"a\x00\x01\x05\x07\x0b\x0c\x0e\x7fb",
            b"a\x1b[1;1\x18b",
        ] {
            assert_eq!(shown(line), "ab", "{line:?}");
        }
        assert_eq!(shown(b"a\x1b]0;never ended"), "a");
        assert_eq!(shown(b"a\x1b[31"), "a");
        assert_eq!(shown(b"a\x1b"), "a");
    }

    #[test]
    fn what_follows_a_carriage_return_replaces_the_line() {
        assert_eq!(shown(b"\x1b[31m 10%\r\x1b[m100%\r"), "100%");
        assert_eq!(shown(b"long line\rx"), "x");
        assert_eq!(shown(b"line\r"), "line");
        assert_eq!(shown(b"|\x08/\x08-"), "-");
        assert_eq!(shown(b"ab\x08 \x08c"), "ac");
        assert_eq!(shown(b"\x08\x08a"), "a");
    }

    #[test]
    fn tabs_reach_the_next_of_eight_columns() {
        assert_eq!(shown(b"a\tb\tc"), "a       b       c");
        assert_eq!(shown("\u{6f22}\tb".as_bytes()), "\u{6f22}      b");
    }

    #[test]
    fn what_is_no_text_or_would_hide_is_replaced() {
        assert_eq!(shown(b"a\xffb\xf0\x9f"), "a\u{fffd}b\u{fffd}");
        assert_eq!(
            shown("a\u{202e}b\u{2066}c\u{200b}d\u{feff}".as_bytes()),
            "a\u{fffd}b\u{fffd}c\u{fffd}d\u{fffd}"
        );
        assert_eq!(shown(format!("a{}b", "\u{301}".repeat(100)).as_bytes()).chars().count(), 6);
    }

    /// Bytes with more that matters to a terminal than chance would give.
    fn hostile() -> impl Strategy<Value = Vec<u8>> {
        let part = prop_oneof![
            any::<u8>().prop_map(|byte| vec![byte]),
            "[a-z0-9;:]{0,6}".prop_map(String::into_bytes),
            prop::sample::select(vec![
                "\x1b",
                "\x1b[",
                "\x1b]",
                "\x1bP",
                "\x1b_",
                "\u{9b}",
                "\u{9d}",
                "\x07",
                "\x1b\\",
                "m",
                "\r",
                "\t",
                "\x08",
                "\u{202e}",
                "\u{200d}",
                "\u{6f22}",
                "\u{301}",
                "\x1b[38;2;",
            ])
            .prop_map(|part| part.as_bytes().to_vec()),
        ];
        prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
    }

    proptest! {
        #[test]
        fn whatever_goes_in_no_control_comes_out(line in hostile()) {
            let (text, _) = text(&line, Sgr::default());
            prop_assert!(!text.text.contains(is_hostile), "{text:?}");
            let looks: Vec<_> = text.looks(0..text.text.len()).collect();
            let joined: String = looks.iter().map(|(range, _)| &text.text[range.clone()]).collect();
            prop_assert_eq!(&joined, &text.text);
            prop_assert_eq!(look_after(&line, Sgr::default()), super::text(&line, Sgr::default()).1);
        }
    }
}
