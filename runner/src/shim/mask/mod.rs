//! Masks values in a stream of bytes, however these are split: every run of bytes that
//! belongs to an occurrence of a value becomes `***`, and overlapping ones become one.
//!
//! Of the stream only what may be the beginning of a value is held back. The automaton of
//! [`aho_corasick`] knows how much that is: the depth of its state.

mod forms;

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::Arc,
};

use aho_corasick::{
    Anchored,
    automaton::{Automaton as _, StateID},
    nfa::noncontiguous::NFA,
};

pub(super) use self::forms::SHORTEST;

/// What stands for a value.
const MASK: &[u8] = b"***";

/// The values to look for.
#[derive(Debug)]
pub(crate) struct Masks {
    automaton: NFA,
    start: StateID,
    /// How many bytes of a value have been seen in a state, at most.
    depths: HashMap<StateID, usize>,
}

impl Masks {
    /// Masks for `values` and for what they look like encoded; none when there is nothing
    /// to mask.
    pub(super) fn of<'a>(values: impl Iterator<Item = &'a str>) -> Option<Arc<Self>> {
        Self::of_patterns(forms::of(values))
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

    fn of_patterns(patterns: impl IntoIterator<Item = Vec<u8>>) -> Option<Arc<Self>> {
        let patterns: Vec<Vec<u8>> = patterns.into_iter().collect();
        if patterns.is_empty() {
            return None;
        }
        // It fails beyond two thousand million states; a job has 32 KiB of values at most.
        let automaton = NFA::builder().build(&patterns).ok()?;
        let start = automaton.start_state(Anchored::No).ok()?;
        let mut depths = HashMap::from([(start, 0)]);
        for pattern in &patterns {
            let mut state = start;
            for (depth, byte) in (1..).zip(pattern) {
                state = automaton.next_state(Anchored::No, state, *byte);
                depths.insert(state, depth);
            }
        }
        Some(Arc::new(Self { automaton, start, depths }))
    }

    /// The length of the longest value that ends in this state.
    fn longest_match(&self, state: StateID) -> Option<usize> {
        if !self.automaton.is_match(state) {
            return None;
        }
        let matches = 0..self.automaton.match_len(state);
        let patterns = matches.map(|index| self.automaton.match_pattern(state, index));
        patterns.map(|pattern| self.automaton.pattern_len(pattern)).max()
    }
}

/// One stream on its way.
#[derive(Debug)]
pub(super) struct Masker {
    masks: Arc<Masks>,
    state: StateID,
    /// What is not let through yet.
    held: Vec<u8>,
    /// Runs of masked bytes in it, by their ends; in order and apart from each other.
    runs: Vec<(usize, usize)>,
    /// How much of its beginning belongs to a run that is told already.
    told: usize,
}

impl Masker {
    pub(super) fn new(masks: &Arc<Masks>) -> Self {
        let (masks, state) = (Arc::clone(masks), masks.start);
        Self { masks, state, held: Vec::new(), runs: Vec::new(), told: 0 }
    }

    /// Takes further bytes; adds to `out` what is certain.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut Vec<u8>) {
        for byte in bytes {
            self.state = self.masks.automaton.next_state(Anchored::No, self.state, *byte);
            self.held.push(*byte);
            if let Some(length) = self.masks.longest_match(self.state) {
                self.mask(self.held.len() - length, self.held.len());
            }
        }
        let depth = self.masks.depths.get(&self.state).copied().unwrap_or_default();
        self.release(self.held.len() - depth, out);
    }

    /// The stream is over: nothing is held back.
    pub(super) fn finish(&mut self, out: &mut Vec<u8>) {
        self.release(self.held.len(), out);
        self.state = self.masks.start;
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
        self.held.drain(..certain);
        self.runs = later;
        self.told = self.told.saturating_sub(certain);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// The whole text at once, without an automaton.
    fn masked(text: &[u8], patterns: &[Vec<u8>]) -> Vec<u8> {
        let mut runs: Vec<(usize, usize)> = Vec::new();
        for start in 0..text.len() {
            let here = patterns.iter().filter(|pattern| text[start..].starts_with(pattern));
            let Some(length) = here.map(Vec::len).max() else { continue };
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

    fn streamed<'a>(
        parts: impl Iterator<Item = &'a [u8]>,
        patterns: &[Vec<u8>],
    ) -> (Vec<u8>, Vec<usize>) {
        let masks = Masks::of_patterns(patterns.to_vec()).unwrap();
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

    proptest! {
        #[test]
        fn it_makes_no_difference_how_a_text_is_split(
            text in letters(0..80),
            patterns in vec(letters(1..7), 1..5),
            cuts in vec(0..80_usize, 0..12),
        ) {
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let parts = cuts.windows(2).map(|ends| &text[ends[0]..ends[1]]);
            let (out, held) = streamed(parts, &patterns);
            prop_assert_eq!(out, masked(&text, &patterns));
            for (end, held) in cuts[1..].iter().zip(held) {
                // No more is held than what may be the beginning of a value, and no less.
                let may_begin = |from: &usize| {
                    patterns.iter().any(|pattern| pattern.starts_with(&text[*from..*end]))
                };
                let from = (0..*end).find(may_begin).unwrap_or(*end);
                prop_assert_eq!(held, end - from);
            }
        }
    }

    #[test]
    fn a_value_that_comes_byte_by_byte_is_masked_and_what_only_begins_like_it_is_not() {
        let patterns = [b"secret".to_vec()];
        let text = b"a secret, secre, secsecret";
        let (out, _) = streamed(text.chunks(1), &patterns);
        assert_eq!(String::from_utf8(out).unwrap(), "a ***, secre, sec***");
    }
}
