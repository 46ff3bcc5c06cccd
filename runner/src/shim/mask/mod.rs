//! Masks values in a stream of bytes, however these are split: every run of bytes that
//! belongs to an occurrence of a value becomes `***`, and overlapping ones become one.
//!
//! Of the stream only what may be the beginning of a value is held back.

mod forms;
mod lines;
mod patterns;

use std::{collections::BTreeMap, mem, sync::Arc};

use aho_corasick::automaton::StateID;

pub(super) use self::forms::SHORTEST;
use self::{
    forms::Forms,
    lines::{OverLines, is_line_end},
    patterns::Patterns,
};

/// What stands for a value.
const MASK: &[u8] = b"***";

/// The values to look for.
#[derive(Debug)]
pub(crate) struct Masks {
    /// All of them.
    all: Patterns,
    /// Those that may be broken into lines.
    over_lines: Patterns,
}

impl Masks {
    /// Masks for `values` and for what they look like encoded; none when there is nothing
    /// to mask.
    pub(super) fn of<'a>(values: impl Iterator<Item = &'a str>) -> Option<Arc<Self>> {
        Self::of_forms(&forms::of(values))
    }

    /// Masks for the variables `names` of `env`, but for those with values that are too
    /// short, which are given by their names.
    pub(crate) fn of_variables<'a>(
        names: impl IntoIterator<Item = &'a String>,
        env: &'a BTreeMap<String, String>,
    ) -> (Option<Arc<Self>>, Vec<&'a str>) {
        let values = names.into_iter().filter_map(|name| env.get_key_value(name));
        let (short, long): (Vec<_>, Vec<_>) = values.partition(|(_, it)| it.len() < SHORTEST);
        let masks = Self::of(long.iter().map(|(_, value)| value.as_str()));
        (masks, short.into_iter().map(|(name, _)| name.as_str()).collect())
    }

    /// A whole text with its values masked.
    pub(crate) fn mask(self: &Arc<Self>, text: &str) -> String {
        let (mut masker, mut masked) = (Masker::new(self), Vec::new());
        masker.push(text.as_bytes(), &mut masked);
        masker.finish(&mut masked);
        String::from_utf8_lossy(&masked).into_owned()
    }

    fn of_forms(forms: &Forms) -> Option<Arc<Self>> {
        let all = forms.exact.union(&forms.over_lines);
        let (all, over_lines) = (Patterns::of(all)?, Patterns::of(forms.over_lines.iter())?);
        (!all.is_empty()).then(|| Arc::new(Self { all, over_lines }))
    }
}

/// One stream on its way.
#[derive(Debug)]
pub(super) struct Masker {
    masks: Arc<Masks>,
    state: StateID,
    over_lines: OverLines,
    /// What is not let through yet.
    held: Vec<u8>,
    /// Runs of masked bytes in it, by their ends; in order and apart from each other.
    runs: Vec<(usize, usize)>,
    /// How much of its beginning belongs to a run that is told already.
    told: usize,
}

impl Masker {
    pub(super) fn new(masks: &Arc<Masks>) -> Self {
        Self {
            masks: Arc::clone(masks),
            state: masks.all.start,
            over_lines: OverLines::new(&masks.over_lines),
            held: Vec::new(),
            runs: Vec::new(),
            told: 0,
        }
    }

    /// Takes further bytes; adds to `out` what is certain.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        let masks = Arc::clone(&self.masks);
        let mut rest = bytes;
        loop {
            if self.state == masks.all.start && !self.over_lines.is_active(&masks.over_lines) {
                let other;
                (other, rest) = rest.split_at(masks.all.first_in(rest));
                self.held.extend_from_slice(other);
            }
            let Some((byte, after)) = rest.split_first() else { break };
            self.take(&masks, *byte);
            rest = after;
        }
        let begun = masks.all.depth(self.state);
        let begun = begun.max(self.over_lines.begun(&masks.over_lines, &self.held));
        self.release(self.held.len() - begun, out);
    }

    /// The stream is over: nothing is held back.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(self.held.len(), out);
        self.state = self.masks.all.start;
        self.over_lines = OverLines::new(&self.masks.over_lines);
    }

    fn take(&mut self, masks: &Masks, byte: u8) {
        let mut over_lines = None;
        if is_line_end(byte) {
            let begun = self.held.len() - masks.all.depth(self.state);
            self.over_lines.end_line(&masks.over_lines, byte, &self.held, begun);
        } else if self.over_lines.is_active(&masks.over_lines) {
            over_lines = self.over_lines.go_on(&masks.over_lines, byte, &self.held);
        }
        self.state = masks.all.next(self.state, byte);
        self.held.push(byte);
        for length in masks.all.longest_match(self.state).into_iter().chain(over_lines) {
            self.mask(self.held.len() - length, self.held.len());
        }
    }

    fn mask(&mut self, mut start: usize, end: usize) {
        if start < self.told {
            // It goes on from what was told.
            self.told = end;
            self.runs.clear();
            return;
        }
        while let Some((before, _)) = self.runs.pop_if(|(_, before)| *before > start) {
            start = start.min(before);
        }
        self.runs.push((start, end));
    }

    /// Lets the first bytes go, up to `certain`.
    fn release(&mut self, certain: usize, out: &mut Vec<u8>) {
        let mut at = self.told.min(certain);
        let mut later = Vec::new();
        for (start, end) in mem::take(&mut self.runs) {
            if start >= certain {
                later.push((start - certain, end - certain));
                continue;
            }
            out.extend_from_slice(&self.held[at..start]);
            out.extend_from_slice(MASK);
            self.told = end;
            at = end.min(certain);
        }
        out.extend_from_slice(&self.held[at..certain]);
        self.over_lines.release(&self.held[..certain]);
        self.held.drain(..certain);
        self.runs = later;
        self.told = self.told.saturating_sub(certain);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::{
        collection::{btree_set, vec},
        prelude::*,
    };

    use super::*;

    /// How much of the text's beginning a pattern is, and whether the text ends before it.
    fn begins(text: &[u8], from: usize, pattern: &[u8], over_lines: bool) -> Option<(usize, bool)> {
        let mut at = from;
        for (index, byte) in pattern.iter().enumerate() {
            if over_lines && index > 0 && ends_base64(&text[..at]) {
                at += match &text[at..] {
                    [b'\r'] | [b'\r', b'\n', ..] => text.len().min(at + 2) - at,
                    [b'\n', ..] => 1,
                    _ => 0,
                };
            }
            match text.get(at) {
                None => return Some((at - from, true)),
                Some(other) if other == byte => at += 1,
                Some(_) => return None,
            }
        }
        Some((at - from, false))
    }

    fn ends_base64(text: &[u8]) -> bool {
        let line = text.rsplit(|byte| *byte == b'\n').next().unwrap();
        let digits = line.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric()).count();
        digits == line.len() || digits >= 16
    }

    /// The whole text at once, without an automaton.
    fn masked(text: &[u8], forms: &Forms) -> Vec<u8> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for start in 0..text.len() {
            let whole = |(length, cut): (usize, bool)| (!cut).then_some(length);
            let here = all(forms).filter_map(|(pattern, over_lines)| {
                begins(text, start, pattern, over_lines).and_then(whole)
            });
            let Some(length) = here.max() else { continue };
            match runs.last_mut() {
                Some((_, end)) if *end > start => *end = (*end).max(start + length),
                _ => runs.push((start, start + length)),
            }
        }
        let (mut out, mut at) = (Vec::new(), 0);
        for (start, end) in runs {
            out.extend_from_slice(&text[at..start]);
            out.extend_from_slice(MASK);
            at = end;
        }
        out.extend_from_slice(&text[at..]);
        out
    }

    fn all(forms: &Forms) -> impl Iterator<Item = (&Vec<u8>, bool)> {
        let exact = forms.exact.iter().map(|pattern| (pattern, false));
        exact.chain(forms.over_lines.iter().flat_map(|pattern| [(pattern, false), (pattern, true)]))
    }

    fn streamed<'a>(parts: impl Iterator<Item = &'a [u8]>, forms: &Forms) -> (Vec<u8>, Vec<usize>) {
        let masks = Masks::of_forms(forms).unwrap();
        let (mut masker, mut out, mut held) = (Masker::new(&masks), Vec::new(), Vec::new());
        for part in parts {
            masker.push(part, &mut out);
            held.push(masker.held.len());
        }
        masker.finish(&mut out);
        (out, held)
    }

    fn letters(lengths: std::ops::Range<usize>) -> impl Strategy<Value = Vec<u8>> {
        vec(prop_oneof![4 => Just(b'a'), 3 => Just(b'b'), 1 => Just(b'c')], lengths)
    }

    /// Letters, with ends of lines and what is no base64 between them.
    fn texts() -> impl Strategy<Value = Vec<u8>> {
        let ends = prop_oneof![4 => Just("\n"), 3 => Just("\r\n"), 1 => Just("\r"), 1 => Just(" ")];
        vec((letters(0..24), ends), 0..12).prop_map(|lines| {
            lines.into_iter().flat_map(|(line, end)| [&line, end.as_bytes()].concat()).collect()
        })
    }

    fn patterns(exact: bool) -> impl Strategy<Value = BTreeSet<Vec<u8>>> {
        let line_ends = prop_oneof![Just(Vec::new()), Just(b"\n".to_vec())];
        let parts = (letters(1..5), line_ends, letters(1..5));
        let pattern = parts.prop_map(move |(first, end, second)| {
            let end = if exact { end } else { Vec::new() };
            [first, end, second].concat()
        });
        btree_set(pattern, 0..4)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1024))]
        #[test]
        fn it_makes_no_difference_how_a_text_is_split(
            text in texts(),
            exact in patterns(true),
            over_lines in patterns(false),
            cuts in vec(0..200_usize, 0..12),
        ) {
            prop_assume!(!exact.is_empty() || !over_lines.is_empty());
            let forms = Forms { exact, over_lines };
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let parts = cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]);
            let (out, held) = streamed(parts, &forms);
            prop_assert_eq!(out, masked(&text, &forms));
            for (end, held) in cuts[1..].iter().zip(held) {
                // No more is held than what may be the beginning of a value, and no less.
                let may_begin = |from: &usize| {
                    all(&forms).any(|(pattern, over_lines)| {
                        begins(&text[..*end], *from, pattern, over_lines)
                            .is_some_and(|(_, cut)| cut)
                    })
                };
                let from = (0..*end).find(may_begin).unwrap_or(*end);
                prop_assert_eq!(held, end - from);
            }
        }
    }

    #[test]
    fn a_value_that_comes_byte_by_byte_is_masked_and_what_only_begins_like_it_is_not() {
        let forms = Forms { exact: [b"secret".to_vec()].into(), ..Forms::default() };
        let text = b"a secret, secre, secsecret";
        let (out, _) = streamed(text.chunks(1), &forms);
        assert_eq!(String::from_utf8(out).unwrap(), "a ***, secre, sec***");
    }

    #[test]
    fn base64_is_masked_over_the_ends_of_lines_behind_a_text_and_what_is_no_base64_is_let_through()
    {
        let masks = Masks::of(["a long secret value"].into_iter()).unwrap();
        for (text, expected) in [
            ("YSBsb25n\nIHNlY3Jl\ndCB2YWx1\nZQ==\n", "***Q==\n"),
            (
                "key: eHh4eHh4eHh4eHh4YSBsb25n\r\nIHNlY3JldCB2YWx1ZQ==\r\n",
                "key: eHh4eHh4eHh4eHh4***Q==\r\n",
            ),
            ("end of YSBsb25n\nIHNlY3JldCB2YWx1ZQ==\n", "end of YSBsb25n\nIHNlY3JldCB2YWx1ZQ==\n"),
            ("YSBsb25n\n\nIHNlY3JldCB2YWx1ZQ==\n", "YSBsb25n\n\nIHNlY3JldCB2YWx1ZQ==\n"),
        ] {
            assert_eq!(masks.mask(text), expected);
        }
        let mut out = Vec::new();
        Masker::new(&masks).push(b"to the end of a ladY\n", &mut out);
        assert_eq!(out, b"to the end of a ladY\n");
    }
}
