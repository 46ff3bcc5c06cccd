//! Job: its record, its attempts, why it waits, what it brought and what it left.

mod state;
mod update;
mod view;

use ratatui::buffer::Buffer;

use self::state::JobScreen;
use super::{Context, Kind, Screen, Step, Subject};
use crate::{
    event::{News, Wants},
    keys::Action,
};

pub(crate) static KIND: Kind = Kind {
    name: "job",
    title: "Job",
    about: "one job: its record, its attempts and its output",
    argument: Some("JOB"),
    actions: &[Action::Cancel, Action::Retry, Action::Priority, Action::Open, Action::Copy],
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

    fn subject(&self) -> Subject {
        let attempt = self.job.as_ref().and_then(|job| job.attempts.last());
        let runner = attempt.map(|attempt| attempt.runner_id.clone());
        Subject { job: Some(self.id.clone()), runner }
    }

    fn view(&self, buffer: &mut Buffer, context: &Context<'_>) {
        self.view(buffer, context);
    }

    fn plain(&self, context: &Context<'_>) -> Vec<String> {
        self.record(context).plain()
    }
}
