//! Patterns to find in a stream, and how far one may have begun: the automaton of
//! [`aho_corasick`] knows that by the depth of its state.

use aho_corasick::{
    Anchored,
    automaton::{Automaton as _, StateID},
    nfa::noncontiguous::NFA,
};

#[derive(Debug)]
pub(super) struct Patterns {
    automaton: NFA,
    pub(super) start: StateID,
    /// By the state: how many of the last bytes may be the beginning of a pattern, at most.
    depths: Vec<usize>,
    /// Whether one begins with this byte.
    first: [bool; 256],
}

impl Patterns {
    pub(super) fn of<'a>(patterns: impl Iterator<Item = &'a Vec<u8>>) -> Option<Self> {
        let mut patterns: Vec<&Vec<u8>> = patterns.collect();
        patterns.sort_by_key(|pattern| pattern.len());
        // It fails beyond two thousand million states; a job has 32 KiB of values at most.
        let automaton = NFA::builder().build(&patterns).ok()?;
        let start = automaton.start_state(Anchored::No).ok()?;
        let (mut depths, mut first) = (Vec::new(), [false; 256]);
        let next = |state, byte: &u8| automaton.next_state(Anchored::No, state, *byte);
        for pattern in &patterns {
            first[usize::from(pattern[0])] = true;
            let mut state = start;
            for (depth, byte) in pattern.iter().enumerate() {
                depths.resize(depths.len().max(state.as_usize() + 1), 0);
                depths[state.as_usize()] = depth;
                state = next(state, byte);
            }
            depths.resize(depths.len().max(state.as_usize() + 1), 0);
        }
        // Of a whole pattern only what may begin another one.
        for pattern in patterns {
            let state = pattern.iter().fold(start, next);
            if depths[state.as_usize()] == 0 {
                let rest = pattern[1..].iter().fold(start, next);
                depths[state.as_usize()] = depths[rest.as_usize()];
            }
        }
        Some(Self { automaton, start, depths, first })
    }

    pub(super) fn is_empty(&self) -> bool {
        self.automaton.patterns_len() == 0
    }

    /// Where the first byte is that a pattern begins with; the end if there is none.
    pub(super) fn first_in(&self, bytes: &[u8]) -> usize {
        let found = bytes.iter().position(|byte| self.first[usize::from(*byte)]);
        found.unwrap_or(bytes.len())
    }

    pub(super) fn next(&self, state: StateID, byte: u8) -> StateID {
        self.automaton.next_state(Anchored::No, state, byte)
    }

    /// The length of the longest pattern that ends in this state.
    pub(super) fn longest_match(&self, state: StateID) -> Option<usize> {
        if !self.automaton.is_match(state) {
            return None;
        }
        let matches = 0..self.automaton.match_len(state);
        let patterns = matches.map(|index| self.automaton.match_pattern(state, index));
        patterns.map(|pattern| self.automaton.pattern_len(pattern)).max()
    }

    /// How many of the last bytes may be the beginning of a pattern.
    pub(super) fn depth(&self, state: StateID) -> usize {
        self.depths.get(state.as_usize()).copied().unwrap_or_default()
    }
}
