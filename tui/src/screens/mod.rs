//! What can be looked at. Each screen is a folder: `state` folds what the watch tells, `update` does
//! what keys ask for, `view` draws, `columns` are those of its table. A new one needs its folder and
//! a line in [`KINDS`].

mod cluster;
mod events;
mod fleet;
mod job;
mod jobs;
mod queues;
mod runner;
mod runners;
mod states;

use baton_proto::v1::{ListEventsRequest, ListJobsRequest};
use jiff::{Timestamp, tz::TimeZone};
use ratatui::{
    buffer::Buffer,
    layout::{Position, Rect},
};

use crate::{
    event::{Intent, News, Wants},
    keys::{Action, KeyMap},
    log::{self, Log, messages::Effect},
    operation::Operation,
    theme::Theme,
};

/// All kinds of screens. The first nine have a number key.
pub(crate) const KINDS: &[&Kind] = &[
    &fleet::KIND,
    &queues::KIND,
    &jobs::KIND,
    &job::KIND,
    &runners::KIND,
    &runner::KIND,
    &cluster::KIND,
    &events::KIND,
];

/// A kind of screens.
pub(crate) struct Kind {
    /// What it is called behind `:`.
    pub(crate) name: &'static str,
    pub(crate) title: &'static str,
    /// What it shows.
    pub(crate) about: &'static str,
    /// What has to be named, such as "JOB"; none where it shows all there is.
    pub(crate) argument: Option<&'static str>,
    /// What can be done on it, the most important first. The general actions named here too are
    /// told in the footer.
    pub(crate) actions: &'static [Action],
    pub(crate) open: fn(&str) -> Box<dyn Screen>,
}

impl Kind {
    pub(crate) fn named(name: &str) -> Option<&'static Self> {
        KINDS.iter().copied().find(|kind| kind.name == name)
    }

    /// Also those that every screen has.
    pub(crate) fn all_actions(&self) -> Vec<Action> {
        let has = |action: &Action| action.is_general() || self.actions.contains(action);
        Action::ALL.iter().copied().filter(has).collect()
    }
}

/// What screens go by when they act and draw.
#[derive(Clone, Copy)]
pub(crate) struct Context<'a> {
    /// By the leader's clock.
    pub(crate) now: Timestamp,
    pub(crate) zone: &'a TimeZone,
    pub(crate) theme: Theme,
    pub(crate) keys: &'a KeyMap,
    /// Where the screen is drawn.
    pub(crate) body: Rect,
    /// Something of what it wants has been told.
    pub(crate) told: bool,
}

impl Context<'_> {
    /// What an empty list says that is not known yet.
    pub(crate) fn empty<'a>(&self, known: &'a str) -> &'a str {
        if self.told { known } else { "waiting for the coordinator" }
    }
}

/// What a screen leads to.
#[derive(Debug, PartialEq)]
pub(crate) enum Step {
    /// Another screen: its name, and what it is about.
    Open(&'static str, String),
    /// Ask whether this shall be done, to what is called so.
    Confirm(Vec<(Operation, String)>),
    /// Ask for something, and then whether it shall be done.
    Ask(Question),
    Do(Intent),
    /// One more page for its list.
    OlderJobs(Box<ListJobsRequest>),
    OlderEvents(Box<ListEventsRequest>),
    /// Something to read.
    Tell(String),
}

/// What has to be known before an operation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Question {
    /// Of jobs: id and name.
    Priority(Vec<(String, String)>),
    /// Of runners: id and name.
    Drain(Vec<(String, String)>),
    /// Of a log: what, how it is asked, and what it begins with.
    Log(log::Question, String, String),
}

/// One place of the console.
pub(crate) trait Screen {
    fn kind(&self) -> &'static Kind;

    /// What it is about; empty where that is everything.
    fn argument(&self) -> &str {
        ""
    }

    /// What a person calls it, with what its list is limited to.
    fn title(&self) -> String;

    fn wants(&self) -> Wants;

    fn fold(&mut self, news: &News);

    /// The action can be asked for as things are; whether the caller may is not its concern.
    fn offers(&self, action: Action) -> bool {
        action.is_general() || self.kind().actions.contains(&action)
    }

    /// Does what is asked for. None: it is nothing of this screen's.
    fn update(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>>;

    /// What `/` begins with; none where there is nothing to find.
    fn filter(&self) -> Option<String> {
        None
    }

    /// Shows only what has this text. Some screens understand words such as `state:failed`.
    ///
    /// # Errors
    /// What is wrong with it.
    fn set_filter(&mut self, _text: &str) -> Result<(), String> {
        Ok(())
    }

    /// Words that can be part of a filter.
    fn filter_words(&self) -> Vec<String> {
        Vec::new()
    }

    /// Takes away all marks.
    fn unmark(&mut self) {}

    /// The log that it shows.
    fn log(&mut self) -> Option<&mut Log> {
        None
    }

    /// Gives its log the room that it has now. What the log asks for.
    fn settle(&mut self, _context: &Context<'_>) -> Vec<Effect> {
        Vec::new()
    }

    /// Another screen is shown in its place.
    fn leave(&mut self) {}

    /// The mouse was pressed.
    fn click(&mut self, _position: Position, _context: &Context<'_>) {}

    /// The job and the runner that it is about or that is selected.
    fn subject(&self) -> Subject {
        Subject::default()
    }

    fn view(&self, buffer: &mut Buffer, context: &Context<'_>);

    /// All of it as lines.
    fn plain(&self, context: &Context<'_>) -> Vec<String>;
}

/// Limits what a screen shows, when there is something to limit it by.
///
/// # Errors
/// What is wrong with `filter`.
pub(crate) fn limit(screen: &mut dyn Screen, filter: &str) -> Result<(), String> {
    match screen.filter() {
        _ if filter.is_empty() => Ok(()),
        Some(_) => screen.set_filter(filter),
        None => Err(format!("`{}` takes no argument", screen.kind().name)),
    }
}

/// What a screen has in view.
#[derive(Debug, Default)]
pub(crate) struct Subject {
    pub(crate) job: Option<String>,
    pub(crate) runner: Option<String>,
}

impl Subject {
    /// What a screen of this kind would be about.
    pub(crate) fn of(self, kind: &Kind) -> Option<String> {
        match kind.argument {
            Some("JOB") => self.job,
            Some("RUNNER") => self.runner,
            _ => None,
        }
    }
}

/// Where the subject of an event or alert is looked at.
pub(crate) fn screen_of(subject: &str) -> Option<Step> {
    let (kind, id) = subject.split_once(':')?;
    let id = id.to_owned();
    Some(match kind {
        "job" => Step::Open("job", id),
        "runner" => Step::Open("runner", id),
        "member" => Step::Open("cluster", String::new()),
        "queue" => Step::Open("queues", String::new()),
        _ => return None,
    })
}
