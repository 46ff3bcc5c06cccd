//! What keys do with a runner.

use ratatui::layout::Position;

use super::{
    KIND,
    state::{PANES, Pane, RunnerScreen},
};
use crate::{
    event::Intent,
    keys::Action,
    screens::{Context, Step, runners},
    widgets::{panes, table},
};

impl RunnerScreen {
    pub(super) fn offers(&self, action: Action) -> bool {
        let runner: Vec<_> = self.runner.iter().collect();
        match action {
            Action::Open => match PANES[self.pane] {
                Pane::Jobs => self.jobs.list().len() > 0,
                Pane::Events => self.events.list().len() > 0,
                Pane::Health | Pane::Checks => false,
            },
            Action::Copy => !runner.is_empty(),
            action => runners::offers_for(&runner, action)
                .unwrap_or_else(|| action.is_general() || KIND.actions.contains(&action)),
        }
    }

    pub(super) fn update(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>> {
        let runner: Vec<_> = self.runner.iter().collect();
        if let Some(steps) = runners::confirm(&runner, action) {
            return Some(steps);
        }
        match action {
            Action::NextPane => self.pane = (self.pane + 1) % PANES.len(),
            Action::PreviousPane => self.pane = (self.pane + PANES.len() - 1) % PANES.len(),
            Action::Full => self.full = !self.full,
            Action::Copy => return Some(vec![Step::Do(Intent::Copy(self.name().to_owned()))]),
            action => return self.update_pane(action, context),
        }
        Some(Vec::new())
    }

    fn update_pane(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>> {
        let places = self.places(context.body);
        let body = panes::inner(places[self.pane].unwrap_or_default());
        let inside = Context { body, ..*context };
        match PANES[self.pane] {
            Pane::Health => {
                let lines = self.health(&inside).lines(body.width.into()).len();
                self.scroll.act(action, lines, body.height.into()).then(Vec::new)
            }
            Pane::Checks => self.checks.act(action, table::page(body)).then(Vec::new),
            Pane::Events => self.events.act(action, &inside),
            Pane::Jobs => match action {
                Action::Open => {
                    let id = self.jobs.list().selected().map(|job| job.id.clone());
                    Some(id.map(|id| Step::Open("job", id)).into_iter().collect())
                }
                action if self.jobs.list_mut().act(action, table::page(body)) => {
                    Some(self.jobs.more())
                }
                _ => None,
            },
        }
    }

    pub(super) fn click(&mut self, position: Position, context: &Context<'_>) {
        let places = self.places(context.body);
        let hit = places.iter().position(|place| place.is_some_and(|it| it.contains(position)));
        let Some(pane) = hit else { return };
        self.pane = pane;
        let inside = panes::inner(places[pane].unwrap_or_default());
        match PANES[pane] {
            Pane::Health => {}
            Pane::Jobs => {
                if let Some(at) = table::hit(self.jobs.list(), inside, position) {
                    self.jobs.list_mut().select(at);
                }
            }
            Pane::Checks => {
                if let Some(at) = table::hit(&self.checks, inside, position) {
                    self.checks.select(at);
                }
            }
            Pane::Events => {
                if let Some(at) = table::hit(self.events.list(), inside, position) {
                    self.events.list_mut().select(at);
                }
            }
        }
    }
}
