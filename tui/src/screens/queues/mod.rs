//! Queues: jobs that wait, by project and by what they require.

mod columns;
mod state;
mod update;

use ratatui::{buffer::Buffer, layout::Position};

use self::columns::COLUMNS;
use super::{Context, Kind, Screen, Step};
use crate::{
    event::{News, Wants},
    keys::Action,
    widgets::table,
};

pub(crate) static KIND: Kind = Kind {
    name: "queues",
    title: "Queues",
    about: "jobs that wait, by project and requirements",
    argument: None,
    actions: &[
        Action::Open,
        Action::Search,
        Action::Problems,
        Action::PauseQueue,
        Action::ResumeQueue,
        Action::Mark,
        Action::MarkAll,
        Action::Copy,
    ],
    open: |_| Box::new(state::Queues::default()),
};

impl Screen for state::Queues {
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
        if let Some(at) = table::hit(&self.list, context.body, position) {
            self.list.select(at);
        }
    }

    fn view(&self, buffer: &mut Buffer, context: &Context<'_>) {
        let empty = if self.list.filter().is_empty() {
            "no jobs wait or run, and no queue is paused"
        } else {
            "no queue is so; esc shows all"
        };
        table::draw(&self.list, COLUMNS, context.body, buffer, context, context.empty(empty));
    }

    fn plain(&self, context: &Context<'_>) -> Vec<String> {
        table::lines(&self.list, COLUMNS, context)
    }
}
