//! Runner: how it is, what it runs, what it found when it looked at itself, and its events.

mod columns;
mod state;
mod update;
mod view;

use ratatui::{buffer::Buffer, layout::Position};

use self::state::RunnerScreen;
use super::{Context, Kind, Screen, Step, Subject};
use crate::{
    event::{News, Wants},
    keys::Action,
};

pub(crate) static KIND: Kind = Kind {
    name: "runner",
    title: "Runner",
    about: "one runner: its health, jobs, checks and events",
    argument: Some("RUNNER"),
    actions: &[
        Action::NextPane,
        Action::Open,
        Action::Cordon,
        Action::Drain,
        Action::ResumeRunner,
        Action::Lift,
        Action::RemoveRunner,
        Action::Full,
        Action::Copy,
    ],
    open: |runner| Box::new(RunnerScreen::open(runner)),
};

impl Screen for RunnerScreen {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn argument(&self) -> &str {
        &self.id
    }

    fn title(&self) -> String {
        format!("Runner {}", self.name())
    }

    fn wants(&self) -> Wants {
        self.wants()
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

    fn click(&mut self, position: Position, context: &Context<'_>) {
        self.click(position, context);
    }

    fn subject(&self) -> Subject {
        let job = self.jobs.list().selected().map(|job| job.id.clone());
        Subject { job, runner: Some(self.id.clone()) }
    }

    fn view(&self, buffer: &mut Buffer, context: &Context<'_>) {
        self.view(buffer, context);
    }

    fn plain(&self, context: &Context<'_>) -> Vec<String> {
        self.plain(context)
    }
}
