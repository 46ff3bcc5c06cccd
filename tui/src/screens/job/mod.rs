//! Job: its record, its attempts, why it waits, what it brought and what it left.

mod state;
mod update;
mod view;

use ratatui::{buffer::Buffer, layout::Position};

use self::state::JobScreen;
use super::{Context, Kind, Screen, Step, Subject};
use crate::{
    event::{News, Wants},
    keys::Action,
    log::{Log, messages::Effect},
};

pub(crate) static KIND: Kind = Kind {
    name: "job",
    title: "Job",
    about: "one job: its record, its attempts and its output",
    argument: Some("JOB"),
    actions: &[
        Action::FirstError,
        Action::Search,
        Action::Follow,
        Action::Cancel,
        Action::Retry,
        Action::Full,
        Action::NextPane,
        Action::Filter,
        Action::Wrap,
        Action::Save,
        Action::Times,
        Action::Mark,
        Action::Copy,
        Action::PreviousAttempt,
        Action::NextAttempt,
        Action::Priority,
        Action::Open,
    ],
    open: |job| Box::new(JobScreen::open(job)),
};

impl Screen for JobScreen {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn argument(&self) -> &str {
        &self.id
    }

    fn title(&self) -> String {
        format!("Job {}", self.name())
    }

    fn wants(&self) -> Wants {
        Wants { job: Some(self.id.clone()), ..Wants::default() }
    }

    fn fold(&mut self, news: &News) {
        self.fold(news);
    }

    fn offers(&self, action: Action) -> bool {
        self.offers(action)
    }

    fn update(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>> {
        self.update(action, context)
    }

    fn log(&mut self) -> Option<&mut Log> {
        Some(&mut self.log)
    }

    fn settle(&mut self, context: &Context<'_>) -> Vec<Effect> {
        self.settle(context)
    }

    fn leave(&mut self) {
        self.log.leave();
    }

    fn click(&mut self, position: Position, context: &Context<'_>) {
        self.click(position, context);
    }

    fn subject(&self) -> Subject {
        let attempt = self.job.as_ref().and_then(|job| job.attempts.last());
        let runner = attempt.map(|attempt| attempt.runner_id.clone());
        Subject { job: Some(self.id.clone()), runner }
    }

    fn view(&self, buffer: &mut Buffer, context: &Context<'_>) {
        self.view(buffer, context);
    }

    fn plain(&self, context: &Context<'_>) -> Vec<String> {
        let mut lines = self.record(context).plain();
        lines.extend([String::new(), self.log.panel().title()]);
        lines.extend(self.log.panel().plain());
        lines
    }
}
