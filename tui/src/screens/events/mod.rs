//! Events: the audit trail, newest first, as it grows.

mod columns;
mod state;

use ratatui::{buffer::Buffer, layout::Position};

pub(super) use self::{columns::COLUMNS, state::Events};
use super::{Context, Kind, Screen, Step, screen_of};
use crate::{
    event::{Intent, News, Wants},
    keys::Action,
    widgets::table,
};

pub(crate) static KIND: Kind = Kind {
    name: "events",
    title: "Events",
    about: "what happened, and who asked for it",
    argument: None,
    actions: &[Action::Open, Action::Search, Action::Problems, Action::Copy],
    open: |_| Box::new(Events::default()),
};

impl Screen for Events {
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

    fn update(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>> {
        self.act(action, context)
    }

    fn filter(&self) -> Option<String> {
        Some(self.list.filter().to_owned())
    }

    fn set_filter(&mut self, text: &str) -> Result<(), String> {
        self.list.set_filter(text);
        Ok(())
    }

    fn click(&mut self, position: Position, context: &Context<'_>) {
        if let Some(at) = table::hit(&self.list, context.body, position) {
            self.list.select(at);
        }
    }

    fn view(&self, buffer: &mut Buffer, context: &Context<'_>) {
        self.draw(buffer, context);
    }

    fn plain(&self, context: &Context<'_>) -> Vec<String> {
        table::lines(&self.list, COLUMNS, context)
    }
}

impl Events {
    /// What keys do with events.
    pub(super) fn act(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>> {
        let steps = match action {
            Action::Open => {
                let event = self.list.selected();
                event.and_then(|event| screen_of(&event.subject)).into_iter().collect()
            }
            Action::Copy => {
                let event = self.list.selected();
                let line = event.map(|event| format!("{} {}", event.subject, event.message));
                line.map(|line| Step::Do(Intent::Copy(line))).into_iter().collect()
            }
            action if self.list.act(action, table::page(context.body)) => self.more(),
            _ => return None,
        };
        Some(steps)
    }

    pub(super) fn draw(&self, buffer: &mut Buffer, context: &Context<'_>) {
        let limited = !self.list.filter().is_empty() || self.list.shows_problems_only();
        let empty =
            if limited { "nothing here is so; esc shows all" } else { "nothing happened yet" };
        table::draw(&self.list, COLUMNS, context.body, buffer, context, context.empty(empty));
    }
}
