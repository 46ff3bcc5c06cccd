//! What is looked for in a log: here as on the server, a text within a line, upper and lower
//! case alike unless it has upper case.

use std::ops::Range;

use regex::{Regex, RegexBuilder};

/// What a text to look for may be long, in bytes: the server takes no more.
pub(crate) const LONGEST: usize = 200;

/// What most programs write where something goes wrong for the first time. Words such as "error"
/// alone are in too many lines that report success.
pub(crate) const ERRORS: [&str; 7] =
    ["error:", "error[", "ERROR", "FAILED", "fatal:", "panicked at", "Traceback (most recent"];

/// One text, or several of which one is enough.
#[derive(Clone, Debug)]
pub(crate) struct Pattern {
    texts: Vec<String>,
    regex: Regex,
}

impl Pattern {
    /// Looks for `text`; none when it is empty or too long.
    pub(crate) fn text(text: &str) -> Option<Self> {
        Self::any([text])
    }

    /// Looks for [`ERRORS`].
    pub(crate) fn errors() -> Option<Self> {
        Self::any(ERRORS)
    }

    fn any<'a>(texts: impl IntoIterator<Item = &'a str>) -> Option<Self> {
        let texts: Vec<String> = texts.into_iter().map(str::to_owned).collect();
        if texts.iter().any(|text| text.is_empty() || text.len() > LONGEST) {
            return None;
        }
        let alternative = |text: &String| {
            let exact = text.contains(char::is_uppercase);
            format!("(?{}:{})", if exact { "-i" } else { "i" }, regex::escape(text))
        };
        let alternatives: Vec<_> = texts.iter().map(alternative).collect();
        let regex = RegexBuilder::new(&alternatives.join("|")).build().ok()?;
        Some(Self { texts, regex })
    }

    /// What is looked for.
    pub(crate) fn texts(&self) -> &[String] {
        &self.texts
    }

    /// `text` has it.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        self.regex.is_match(text)
    }

    /// Where in `text` it is, each time.
    pub(crate) fn places(&self, text: &str) -> impl Iterator<Item = Range<usize>> {
        self.regex.find_iter(text).map(|found| found.range())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_matters_only_where_there_is_upper_case() {
        let is_in = |pattern: &str, text| Pattern::text(pattern).unwrap().is_in(text);
        assert!(is_in("warn", "WARNING"));
        assert!(is_in("ä", "Ä"));
        assert!(!is_in("Warn", "WARNING"));
        assert!(is_in("a.b", "xA.B"));
        assert!(!is_in("a.b", "acb"));
        assert!(Pattern::text("").is_none());
        assert!(Pattern::text(&"x".repeat(201)).is_none());
    }

    #[test]
    fn errors_are_found_and_reports_of_success_are_not() {
        let errors = Pattern::errors().unwrap();
        for line in [
            "error: could not compile",
            "error[E0308]: mismatched types",
            "make: *** Error: 1",
            "TypeError: x is not a function",
            "2026-01-01 ERROR pool: closed",
            "test a::b ... FAILED",
            "fatal: not a git repository",
            "thread 'main' panicked at a.rs",
            "Traceback (most recent call last):",
        ] {
            assert!(errors.is_in(line), "{line}");
        }
        for line in
            ["Compiling thiserror v2.0.1", "test result: ok. 3 passed; 0 failed", "0 errors"]
        {
            assert!(!errors.is_in(line), "{line}");
        }
    }

    #[test]
    fn each_place_is_told() {
        let places: Vec<_> = Pattern::text("ab").unwrap().places("abxAB").collect();
        assert_eq!(places, [0..2, 3..5]);
    }
}
