//! Text of the fleet on its way to the terminal. Names, messages and problems come from anybody:
//! this is the one place that takes out of them what would move the cursor, reorder a line or
//! hide in it. Everything that is drawn has been through [`clean`].

use std::borrow::Cow;

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// What stands for a character that is not shown.
pub(crate) const REPLACEMENT: char = '\u{fffd}';

/// `text` on one line, with a mark in place of each control character, and of each that cannot be
/// seen.
pub(crate) fn clean(text: &str) -> Cow<'_, str> {
    if !text.contains(is_hostile) {
        return Cow::Borrowed(text);
    }
    let shown = |c| match c {
        '\n' | '\t' => ' ',
        c if is_hostile(c) => REPLACEMENT,
        c => c,
    };
    Cow::Owned(text.trim_end_matches(['\r', '\n']).chars().map(shown).collect())
}

/// Control characters, and those of Unicode that reorder or cannot be seen.
pub(crate) fn is_hostile(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}'
            | '\u{3164}' | '\u{fe00}'..='\u{fe0e}' | '\u{feff}' | '\u{ffa0}'
            | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}' | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}')
}

/// How many columns `text` takes.
pub(crate) fn width(text: &str) -> usize {
    text.width()
}

/// As much of `text` as fits into `columns`, with `more` at the end of what was cut.
pub(crate) fn fit<'a>(text: &'a str, columns: usize, more: &str) -> Cow<'a, str> {
    if width(text) <= columns {
        return Cow::Borrowed(text);
    }
    let room = columns.saturating_sub(width(more));
    let kept = &text[..end_of(text, room)];
    Cow::Owned(if width(more) <= columns { format!("{kept}{more}") } else { kept.to_owned() })
}

/// `text` in lines of at most `columns`, broken between words where that is possible.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    let columns = columns.max(1);
    let mut lines = Vec::new();
    let mut rest = text;
    while width(rest) > columns {
        let end = end_of(rest, columns).max(rest.chars().next().map_or(1, char::len_utf8));
        let space = rest[..end].rfind(' ').filter(|at| *at > 0);
        let end = if rest[end..].starts_with(' ') { end } else { space.unwrap_or(end) };
        lines.push(rest[..end].trim_end().to_owned());
        rest = rest[end..].trim_start_matches(' ');
    }
    if !rest.is_empty() || lines.is_empty() {
        lines.push(rest.to_owned());
    }
    lines
}

/// `text`, filled up with spaces to `columns`.
pub(crate) fn pad(text: &str, columns: usize, right: bool) -> String {
    let space = " ".repeat(columns.saturating_sub(width(text)));
    if right { format!("{space}{text}") } else { format!("{text}{space}") }
}

/// The byte up to which `text` takes at most `columns`.
fn end_of(text: &str, columns: usize) -> usize {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        used += c.width().unwrap_or(0);
        if used > columns {
            return at;
        }
    }
    text.len()
}

/// `count` of what is called `name`: "1 job", "2 jobs".
pub(crate) fn count(count: usize, name: &str) -> String {
    if count == 1 { format!("1 {name}") } else { format!("{count} {name}s") }
}

/// Bytes for people.
pub(crate) fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    #[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
    let mut size = bytes as f64;
    let mut shown = format!("{bytes} B");
    for unit in UNITS {
        if size < 1024.0 {
            break;
        }
        size /= 1024.0;
        shown = format!("{size:.1} {unit}");
    }
    shown
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_would_move_the_cursor_or_hide_is_replaced() {
        assert_eq!(clean("plain"), "plain");
        assert_eq!(
            clean("a\x1b[31mb\u{9b}c\u{202e}d\u{200b}e"),
            "a\u{fffd}[31mb\u{fffd}c\u{fffd}d\u{fffd}e"
        );
        assert_eq!(clean("two\nlines\r\n"), "two lines");
    }

    #[test]
    fn text_is_cut_by_columns_and_not_by_bytes() {
        assert_eq!(fit("日本語", 5, "…"), "日本…");
        assert_eq!(fit("日本語", 4, "…"), "日…");
        assert_eq!(fit("abc", 0, "…"), "");
        assert_eq!(pad("日", 4, true), "  日");
    }

    #[test]
    fn lines_break_between_words() {
        assert_eq!(wrap("one two three", 7), ["one two", "three"]);
        assert_eq!(wrap("abcdefgh", 3), ["abc", "def", "gh"]);
        assert_eq!(wrap("", 3), [""]);
        assert_eq!(wrap("日本", 1), ["日", "本"]);
    }

    proptest! {
        #[test]
        fn nothing_that_was_cleaned_is_hostile_and_no_line_is_too_long(
            text in "\\PC*|[\\x00-\\x20\u{80}-\u{9f}\u{202a}-\u{202e}ab日]*", columns in 2..40_usize,
        ) {
            let cleaned = clean(&text);
            prop_assert!(!cleaned.contains(is_hostile));
            prop_assert!(width(&fit(&cleaned, columns, "…")) <= columns);
            for line in wrap(&cleaned, columns) {
                prop_assert!(width(&line) <= columns, "{line:?}");
            }
        }
    }
}
