//! What stands in front of a screen and has the keys.

use crate::{operation::Task, screens::Question, widgets::page::Scroll};

#[derive(Debug)]
pub(crate) enum Overlay {
    /// Which keys there are.
    Help(Scroll),
    Prompt(Prompt),
    /// Whether this shall be done.
    Confirm(Vec<Task>, Scroll),
    /// What of an action did not succeed: with the causes, to be tried again.
    Failures(Vec<(Task, String)>, Scroll),
}

impl Overlay {
    pub(crate) fn scroll_mut(&mut self) -> Option<&mut Scroll> {
        match self {
            Self::Help(scroll) | Self::Confirm(_, scroll) | Self::Failures(_, scroll) => {
                Some(scroll)
            }
            Self::Prompt(_) => None,
        }
    }

    pub(crate) fn is_prompt(&self) -> bool {
        matches!(self, Self::Prompt(_))
    }
}

/// A line that is being written.
#[derive(Debug)]
pub(crate) struct Prompt {
    pub(crate) purpose: Purpose,
    pub(crate) text: String,
    /// The byte before which a character would come.
    pub(crate) cursor: usize,
    /// What is wrong with it.
    pub(crate) error: Option<String>,
    /// What could be meant, and which of it was chosen last.
    pub(crate) candidates: Vec<String>,
    pub(crate) chosen: Option<usize>,
}

/// What a line is for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Purpose {
    Command,
    /// What the screen's list is limited to, and to what it was before.
    Filter(String),
    Ask(Question),
}

impl Prompt {
    pub(crate) fn new(purpose: Purpose, text: String) -> Self {
        let cursor = text.len();
        Self { purpose, text, cursor, error: None, candidates: Vec::new(), chosen: None }
    }

    pub(crate) fn insert(&mut self, text: &str) {
        let clean: String = text.chars().filter(|c| !crate::text::is_hostile(*c)).collect();
        self.text.insert_str(self.cursor, &clean);
        self.cursor += clean.len();
    }

    /// Takes away the character before the cursor; false when there is none in the line at all.
    pub(crate) fn rub_out(&mut self) -> bool {
        let Some(c) = self.text[..self.cursor].chars().next_back() else {
            return !self.text.is_empty();
        };
        self.cursor -= c.len_utf8();
        self.text.remove(self.cursor);
        true
    }

    /// Takes away the word before the cursor.
    pub(crate) fn rub_out_word(&mut self) {
        let before = self.text[..self.cursor].trim_end();
        let start = before.rfind(' ').map_or(0, |space| space + 1);
        self.text.replace_range(start..self.cursor, "");
        self.cursor = start;
    }

    pub(crate) fn left(&mut self) {
        let before = self.text[..self.cursor].chars().next_back();
        self.cursor -= before.map_or(0, char::len_utf8);
    }

    pub(crate) fn right(&mut self) {
        let after = self.text[self.cursor..].chars().next();
        self.cursor += after.map_or(0, char::len_utf8);
    }

    /// Puts the next candidate in place of the word that is being written.
    pub(crate) fn complete(&mut self, back: bool) {
        let len = self.candidates.len();
        if len == 0 {
            return;
        }
        let at = match (self.chosen, back) {
            (None, false) => 0,
            (None, true) => len - 1,
            (Some(at), false) => (at + 1) % len,
            (Some(at), true) => (at + len - 1) % len,
        };
        self.chosen = Some(at);
        let start = self.text.rfind(' ').map_or(0, |space| space + 1);
        self.text.truncate(start);
        self.text.push_str(&self.candidates[at]);
        self.cursor = self.text.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_edited_by_characters() {
        let mut prompt = Prompt::new(Purpose::Command, "日本".to_owned());
        prompt.left();
        prompt.insert("a\x1bb\n");
        assert_eq!(prompt.text, "日ab本");
        assert!(prompt.rub_out() && prompt.rub_out() && prompt.rub_out());
        assert_eq!((prompt.text.as_str(), prompt.cursor), ("本", 0));
        prompt.right();
        prompt.right();
        prompt.rub_out_word();
        assert!(!prompt.rub_out());
    }

    #[test]
    fn completion_goes_round_in_the_last_word() {
        let mut prompt = Prompt::new(Purpose::Command, "jobs st".to_owned());
        prompt.candidates = vec!["state:failed".to_owned(), "state:lost".to_owned()];
        prompt.complete(false);
        assert_eq!(prompt.text, "jobs state:failed");
        prompt.complete(false);
        prompt.complete(false);
        assert_eq!(prompt.text, "jobs state:failed");
        prompt.complete(true);
        assert_eq!(prompt.text, "jobs state:lost");
    }
}
