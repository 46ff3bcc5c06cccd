//! The file in which a person gives actions other keys:
//!
//! ```toml
//! [keys]
//! cancel = "x"
//! top = ["g g", "home"]
//! mouse = []
//! ```
//!
//! A mistake in it is told with its line.

use std::collections::HashMap;

use serde::Deserialize;
use toml::{Spanned, Value};

use super::{
    Action, KeyMap,
    map::{Sequence, parse_sequence},
};
use crate::screens;

/// What is wrong with a keys file.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct KeysError {
    /// From 1.
    pub line: usize,
    /// What is wrong there.
    pub problem: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(default)]
    keys: HashMap<Spanned<String>, Spanned<Value>>,
}

impl KeyMap {
    /// The usual keys, but for what `text` says.
    ///
    /// # Errors
    /// The first mistake, with its line: no TOML, an action or a key that there is none of, or one
    /// key for two actions of one screen.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let line_of = |at: usize| text.get(..at).unwrap_or(text).matches('\n').count() + 1;
        let document: Document = toml::from_str(text).map_err(|error| KeysError {
            line: line_of(error.span().map_or(0, |span| span.start)),
            problem: error.message().trim().replace('\n', "; "),
        })?;
        let mut entries: Vec<_> = document.keys.into_iter().collect();
        entries.sort_by_key(|(name, _)| name.span().start);
        let mut map = Self::default();
        let mut set = Vec::new();
        for (name, value) in entries {
            let line = line_of(name.span().start);
            let wrong = |problem| KeysError { line, problem };
            let action = Action::named(name.get_ref())
                .ok_or_else(|| wrong(format!("there is no action `{}`", name.get_ref())))?;
            let line = line_of(value.span().start);
            let sequences =
                sequences(value.get_ref()).map_err(|problem| KeysError { line, problem })?;
            map.set(action, sequences);
            set.push((action, line));
        }
        map.check(&set)?;
        Ok(map)
    }

    /// Each key asks for one thing on each screen.
    fn check(&self, set: &[(Action, usize)]) -> Result<(), KeysError> {
        for kind in screens::KINDS {
            let Some((one, other)) = self.conflict(&kind.all_actions()) else { continue };
            let place = set.iter().rev().find(|(action, _)| [one, other].contains(action));
            let shown = self.shown(one).or_else(|| self.shown(other)).unwrap_or_default();
            let problem = format!("`{shown}` would mean `{}` and `{}`", one.name(), other.name());
            return Err(KeysError { line: place.map_or(1, |(_, line)| *line), problem });
        }
        Ok(())
    }
}

fn sequences(value: &Value) -> Result<Vec<Sequence>, String> {
    match value {
        Value::Array(values) => {
            values.iter().map(sequences).collect::<Result<Vec<_>, _>>().map(|all| all.concat())
        }
        Value::String(text) => {
            let sequence =
                parse_sequence(text).ok_or_else(|| format!("there is no key `{text}`"))?;
            Ok(vec![sequence])
        }
        _ => Err("a key is a text, such as \"x\" or [\"g g\", \"home\"]".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::{Found, Key};

    fn mistake(text: &str) -> String {
        KeyMap::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn the_usual_keys_are_one_thing_each_on_every_screen() {
        for kind in screens::KINDS {
            assert_eq!(KeyMap::default().conflict(&kind.all_actions()), None, "{}", kind.name);
        }
        for action in Action::ALL {
            let written = action.default_keys().len();
            assert_eq!(KeyMap::default().sequences(*action).len(), written, "{}", action.name());
        }
    }

    #[test]
    fn a_file_gives_an_action_other_keys_or_none() {
        let map = KeyMap::parse("[keys]\ncancel = [\"x\", \"ctrl-x x\"]\nmouse = []\n").unwrap();
        let press = |text: &str| {
            let keys: Vec<Key> = text.split(' ').filter_map(Key::parse).collect();
            map.find(&keys, |_| true)
        };
        assert_eq!(press("x"), Found::Action(Action::Cancel));
        assert_eq!(press("ctrl-x"), Found::Prefix);
        assert_eq!(press("ctrl-x x"), Found::Action(Action::Cancel));
        assert_eq!(press("c"), Found::Nothing);
        assert_eq!(press("m"), Found::Nothing);
        assert_eq!(map.shown(Action::Mouse), None);
        assert_eq!(map.all_shown(Action::Cancel), "x, ctrl-xx");
    }

    #[test]
    fn a_mistake_is_told_with_its_line() {
        assert_eq!(mistake("[keys]\n\ncansel = \"x\""), "line 3: there is no action `cansel`");
        assert_eq!(mistake("[keys]\ncancel = \"strg-x\""), "line 2: there is no key `strg-x`");
        assert!(mistake("[keys]\ncancel = 5").starts_with("line 2: a key is a text"));
        assert!(mistake("[keys]\ncancel =").starts_with("line 2: "));
        assert!(mistake("[kees]\n").starts_with("line 1: unknown field `kees`"));
    }

    #[test]
    fn one_key_for_two_actions_of_a_screen_is_a_mistake() {
        let told = mistake("[keys]\ntop = \"g g\"\ncancel = \"r\"");
        assert_eq!(told, "line 3: `r` would mean `cancel` and `retry`");
        let told = mistake("[keys]\nretry = \"g\"");
        assert_eq!(told, "line 2: `gg` would mean `top` and `retry`");
        // On different screens it is fine.
        KeyMap::parse("[keys]\npause-queue = \"c\"").unwrap();
    }
}
