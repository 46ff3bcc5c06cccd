//! Which keys ask for which action. One key may ask for different actions on different screens;
//! on one screen it asks for one.

use super::{Action, Key};

/// One or more keys, pressed one after the other.
pub(crate) type Sequence = Vec<Key>;

/// The keys of every action.
#[derive(Clone, Debug)]
pub struct KeyMap {
    /// In the order of [`Action::ALL`]; of each, the first is shown.
    entries: Vec<(Action, Vec<Sequence>)>,
}

/// What some keys mean, pressed one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Action(Action),
    /// Another key is needed.
    Prefix,
    Nothing,
}

impl Default for KeyMap {
    fn default() -> Self {
        let sequences = |action: Action| {
            action.default_keys().iter().filter_map(|text| parse_sequence(text)).collect()
        };
        Self { entries: Action::ALL.iter().map(|action| (*action, sequences(*action))).collect() }
    }
}

/// Reads keys with spaces between them.
pub(crate) fn parse_sequence(text: &str) -> Option<Sequence> {
    let keys: Option<Sequence> = text.split_whitespace().map(Key::parse).collect();
    keys.filter(|keys| !keys.is_empty())
}

/// As a person would say it: "gg", "ctrl-u".
pub(crate) fn in_words(sequence: &[Key]) -> String {
    sequence.iter().map(ToString::to_string).collect()
}

impl KeyMap {
    /// Gives `action` these keys in place of those that it had.
    pub(crate) fn set(&mut self, action: Action, sequences: Vec<Sequence>) {
        if let Some((_, keys)) = self.entries.iter_mut().find(|(known, _)| *known == action) {
            *keys = sequences;
        }
    }

    pub(crate) fn sequences(&self, action: Action) -> &[Sequence] {
        let entry = self.entries.iter().find(|(known, _)| *known == action);
        entry.map_or(&[], |(_, keys)| keys)
    }

    /// What `pressed` means where only `offered` can be asked for.
    pub(crate) fn find(&self, pressed: &[Key], offered: impl Fn(Action) -> bool) -> Found {
        let mut found = Found::Nothing;
        for (action, sequences) in self.entries.iter().filter(|(action, _)| offered(*action)) {
            for sequence in sequences {
                if sequence == pressed {
                    return Found::Action(*action);
                }
                if sequence.starts_with(pressed) {
                    found = Found::Prefix;
                }
            }
        }
        found
    }

    /// The first keys of `action`, for people; none when it has none.
    pub(crate) fn shown(&self, action: Action) -> Option<String> {
        self.sequences(action).first().map(|sequence| in_words(sequence))
    }

    /// All keys of `action`, for people.
    pub(crate) fn all_shown(&self, action: Action) -> String {
        let sequences = self.sequences(action).iter().map(|sequence| in_words(sequence));
        sequences.collect::<Vec<_>>().join(", ")
    }

    /// Two of `actions` that one key asks for, or of which one's keys begin the other's.
    pub(crate) fn conflict(&self, actions: &[Action]) -> Option<(Action, Action)> {
        actions.iter().enumerate().find_map(|(at, first)| {
            let clash = |second: &&Action| {
                self.sequences(*first).iter().any(|one| {
                    let clashes =
                        |other: &Sequence| one.starts_with(other) || other.starts_with(one);
                    self.sequences(**second).iter().any(clashes)
                })
            };
            actions[at + 1..].iter().find(clash).map(|second| (*first, *second))
        })
    }
}
