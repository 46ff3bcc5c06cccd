//! Jobs: the newest, by filter; older ones as one scrolls to them.

mod columns;
mod filter;
mod state;
mod update;
mod view;

pub(crate) use self::{columns::COLUMNS, state::Jobs};
use super::{Context, Kind, Screen, Step, Subject};
use crate::{
    event::{News, Wants},
    keys::Action,
};
use ratatui::{buffer::Buffer, layout::Position};

pub(crate) static KIND: Kind = Kind {
    name: "jobs",
    title: "Jobs",
    about: "jobs, newest first",
    argument: None,
    actions: &[
        Action::Open,
        Action::Problems,
        Action::Search,
        Action::Mark,
        Action::Cancel,
        Action::Retry,
        Action::Priority,
        Action::MarkAll,
        Action::Copy,
    ],
    open: |filter| Box::new(Jobs::open(filter)),
};

impl Screen for Jobs {
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
        self.offers(action)
    }

    fn update(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>> {
        self.update(action, context)
    }

    fn filter(&self) -> Option<String> {
        Some(self.filter.to_string())
    }

    fn set_filter(&mut self, text: &str) -> Result<(), String> {
        self.limit_to(text.parse()?);
        Ok(())
    }

    fn filter_words(&self) -> Vec<String> {
        filter::words()
    }

    fn unmark(&mut self) {
        self.list.unmark();
    }

    fn click(&mut self, position: Position, context: &Context<'_>) {
        self.click(position, context);
    }

    fn subject(&self) -> Subject {
        let job = self.list.selected().map(|job| job.id.clone());
        Subject { job, ..Subject::default() }
    }

    fn view(&self, buffer: &mut Buffer, context: &Context<'_>) {
        self.view(buffer, context);
    }

    fn plain(&self, context: &Context<'_>) -> Vec<String> {
        crate::widgets::table::lines(&self.list, COLUMNS, context)
    }
}
