//! The output of a job: what came of it, where in it one looks, and what is looked for.
//! Nothing in here does I/O or knows the time: `client/log.rs` fetches, this says what.

mod ansi;
mod answers;
mod buffer;
mod filter;
pub mod messages;
mod panel;
mod pattern;
mod rows;
mod sgr;
mod update;
mod view;

use std::path::PathBuf;

use self::messages::{Answer, Effect};
pub(crate) use self::panel::Panel;
use crate::keys::Action;

/// The view of a log, with what it has asked for and nobody has fetched yet.
#[derive(Debug)]
pub(crate) struct Log {
    panel: Panel,
    effects: Vec<Effect>,
}

/// What has to be known before something is done with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Question {
    /// What to look for.
    Search,
    /// What the lines must have.
    Filter,
    /// Where to write it.
    Save,
}

impl Log {
    pub(crate) fn of_job(job_id: &str) -> Self {
        Self { panel: Panel::new(job_id), effects: Vec::new() }
    }

    pub(crate) fn panel(&self) -> &Panel {
        &self.panel
    }

    /// Changes the view.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Panel) -> Vec<Effect>) {
        self.effects.extend(change(&mut self.panel));
    }

    /// Does what the action asks for; false where it means nothing here.
    pub(crate) fn act(&mut self, action: Action) -> bool {
        let effects = self.panel.act(action);
        let known = effects.is_some();
        self.effects.extend(effects.unwrap_or_default());
        known
    }

    pub(crate) fn answer(&mut self, number: u64, answer: Answer) {
        self.change(|panel| panel.answer(number, answer));
    }

    /// The label of the line in which the question is answered, and what it begins with.
    pub(crate) fn ask(&self, question: Question) -> (String, String) {
        match question {
            Question::Search => ("/".to_owned(), String::new()),
            Question::Filter => {
                ("only lines with: ".to_owned(), self.panel.filter_text().to_owned())
            }
            Question::Save => {
                (format!("save {} to: ", self.panel.what_to_save()), self.panel.file_name())
            }
        }
    }

    /// Does what was asked about.
    ///
    /// # Errors
    /// What is wrong with `text`.
    pub(crate) fn answered(&mut self, question: Question, text: &str) -> Result<(), String> {
        let longest = pattern::LONGEST;
        match question {
            Question::Search | Question::Filter if text.len() > longest => {
                return Err(format!("at most {longest} bytes"));
            }
            Question::Save if text.trim().is_empty() => {
                return Err("the file needs a name".to_owned());
            }
            Question::Search => self.change(|panel| panel.search(text)),
            Question::Filter => self.change(|panel| panel.filter(text)),
            Question::Save => self.change(|panel| panel.save(PathBuf::from(text.trim()))),
        }
        Ok(())
    }

    /// What it has asked for since the last time.
    pub(crate) fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Forgets the output: nobody looks at it any more.
    pub(crate) fn leave(&mut self) {
        self.panel.forget();
        self.effects.clear();
    }
}

#[cfg(test)]
mod tests;
