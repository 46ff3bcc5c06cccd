//! Draws a runner.

use ratatui::{buffer::Buffer, layout::Rect};

use super::{
    columns::COLUMNS,
    state::{PANES, Pane, RunnerScreen},
};
use crate::{
    screens::{Context, events, jobs, runners},
    theme::Tone,
    widgets::{
        cell::Cell,
        page::Page,
        panes::{self, arrange},
        table,
    },
};

impl RunnerScreen {
    pub(super) fn places(&self, body: Rect) -> Vec<Option<Rect>> {
        arrange(body, PANES.len(), self.pane, self.full)
    }

    pub(super) fn view(&self, buffer: &mut Buffer, context: &Context<'_>) {
        for (at, place) in self.places(context.body).into_iter().enumerate() {
            let Some(place) = place else { continue };
            let title = match PANES[at] {
                Pane::Health => "Health",
                Pane::Jobs => "Jobs",
                Pane::Checks => "Checks of the last hour",
                Pane::Events => "Events",
            };
            panes::frame(title, at == self.pane, place, buffer, context.theme);
            let inside = Context { body: panes::inner(place), ..*context };
            self.view_pane(PANES[at], buffer, &inside);
        }
    }

    fn view_pane(&self, pane: Pane, buffer: &mut Buffer, context: &Context<'_>) {
        let body = context.body;
        match pane {
            Pane::Health => self.scroll.draw(&self.health(context), body, buffer, context.theme),
            Pane::Jobs => {
                let empty = context.empty("it has had no jobs");
                table::draw(self.jobs.list(), jobs::COLUMNS, body, buffer, context, empty);
            }
            Pane::Checks => {
                let empty = context.empty("no checks while this coordinator led");
                table::draw(&self.checks, COLUMNS, body, buffer, context, empty);
            }
            Pane::Events => self.events.draw(buffer, context),
        }
    }

    pub(super) fn health(&self, context: &Context<'_>) -> Page {
        if let Some(runner) = &self.runner {
            return runners::health_of(runner, context);
        }
        let mut page = Page::default();
        page.line(vec![match self.is_gone {
            true => Cell::new("There is no such runner, or not any more.", Tone::Warn),
            false => Cell::new(context.empty("not known yet"), Tone::Dim),
        }]);
        page
    }

    pub(super) fn plain(&self, context: &Context<'_>) -> Vec<String> {
        let mut lines = self.health(context).plain();
        lines.extend([String::new(), "Jobs".to_owned()]);
        lines.extend(table::lines(self.jobs.list(), jobs::COLUMNS, context));
        lines.extend([String::new(), "Checks of the last hour".to_owned()]);
        lines.extend(table::lines(&self.checks, COLUMNS, context));
        lines.extend([String::new(), "Events".to_owned()]);
        lines.extend(table::lines(self.events.list(), events::COLUMNS, context));
        lines
    }
}
