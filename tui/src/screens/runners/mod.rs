//! Runners: how each is, and what it has to do.

mod columns;
mod state;
mod update;
mod view;

use ratatui::{buffer::Buffer, layout::Position};

use self::columns::COLUMNS;
pub(super) use self::{
    update::{confirm, offers_for},
    view::health_of,
};
use super::{Context, Kind, Screen, Step, Subject};
use crate::{
    event::{News, Wants},
    keys::Action,
    widgets::table,
};

pub(crate) static KIND: Kind = Kind {
    name: "runners",
    title: "Runners",
    about: "all runners, and how they are",
    argument: None,
    actions: &[
        Action::Open,
        Action::Problems,
        Action::Search,
        Action::Mark,
        Action::Cordon,
        Action::Drain,
        Action::ResumeRunner,
        Action::Lift,
        Action::RemoveRunner,
        Action::MarkAll,
        Action::Copy,
    ],
    open: |_| Box::new(state::Runners::default()),
};

impl Screen for state::Runners {
    fn kind(&self) -> &'static Kind {
        &KIND
    }

    fn title(&self) -> String {
        self.title()
    }

    fn wants(&self) -> Wants {
        self.wants()
    }

    fn fold(&mut self, news: &News) {
        self.fold(news);
    }

    fn offers(&self, action: Action) -> bool {
        offers_for(&self.list.chosen(), action)
            .unwrap_or_else(|| action.is_general() || KIND.actions.contains(&action))
    }

    fn update(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>> {
        self.update(action, context)
    }

    fn filter(&self) -> Option<String> {
        Some(self.list.filter().to_owned())
    }

    fn set_filter(&mut self, text: &str) -> Result<(), String> {
        self.list.set_filter(text);
        Ok(())
    }

    fn unmark(&mut self) {
        self.list.unmark();
    }

    fn click(&mut self, position: Position, context: &Context<'_>) {
        if let Some(at) = table::hit(&self.list, view::places(context.body).0, position) {
            self.list.select(at);
        }
    }

    fn subject(&self) -> Subject {
        let runner = self.list.selected().map(|runner| runner.id.clone());
        Subject { runner, ..Subject::default() }
    }

    fn view(&self, buffer: &mut Buffer, context: &Context<'_>) {
        self.view(buffer, context);
    }

    fn plain(&self, context: &Context<'_>) -> Vec<String> {
        table::lines(&self.list, COLUMNS, context)
    }
}
