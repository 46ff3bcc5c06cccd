//! What keys do with a job.

use ratatui::layout::Position;

use super::{
    KIND,
    state::{JobScreen, PANES, Pane},
};
use crate::{
    event::Intent,
    keys::Action,
    log::{self, messages::Effect},
    operation::Operation,
    screens::{Context, Question, Step, states},
    widgets::panes,
};

impl JobScreen {
    pub(super) fn offers(&self, action: Action) -> bool {
        let live = self.job.as_ref().map(|job| states::is_live(job.state()));
        match action {
            Action::Cancel | Action::Priority => live == Some(true),
            Action::Retry => live == Some(false),
            Action::Open => self.runner().is_some(),
            action => action.is_general() || KIND.actions.contains(&action),
        }
    }

    /// The runner that has it, or had it last.
    fn runner(&self) -> Option<String> {
        let attempt = self.job.as_ref()?.attempts.last()?;
        Some(attempt.runner_id.clone())
    }

    pub(super) fn update(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>> {
        if !self.offers(action) {
            return None;
        }
        let name = states::exact_name(&self.name(), &self.id);
        let confirm = |operation: Operation| vec![Step::Confirm(vec![(operation, name.clone())])];
        let steps = match action {
            Action::Cancel => confirm(Operation::Cancel(self.id.clone())),
            Action::Retry => confirm(Operation::Retry(self.id.clone())),
            Action::Priority => {
                vec![Step::Ask(Question::Priority(vec![(self.id.clone(), name)]))]
            }
            Action::Open => self.runner().map(|id| Step::Open("runner", id)).into_iter().collect(),
            Action::NextPane | Action::PreviousPane => {
                self.pane = (self.pane + 1) % PANES.len();
                Vec::new()
            }
            Action::Full => {
                self.full = !self.full;
                Vec::new()
            }
            Action::Search => self.ask(log::Question::Search),
            Action::Filter => self.ask(log::Question::Filter),
            Action::Save => self.ask(log::Question::Save),
            action => return self.update_pane(action, context),
        };
        Some(steps)
    }

    fn ask(&self, question: log::Question) -> Vec<Step> {
        let (label, begin) = self.log.ask(question);
        vec![Step::Ask(Question::Log(question, label, begin))]
    }

    /// What moves and copies is for the pane that has the keys, and the rest for the log.
    fn update_pane(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>> {
        if PANES[self.pane] == Pane::Record {
            let inner = panes::inner(self.places(context.body)[self.pane].unwrap_or_default());
            let lines = self.record(context).lines(inner.width.into()).len();
            if action == Action::Copy {
                return Some(vec![Step::Do(Intent::Copy(self.id.clone()))]);
            }
            if self.scroll.act(action, lines, inner.height.into()) {
                return Some(Vec::new());
            }
        }
        if self.log.act(action) {
            return Some(Vec::new());
        }
        let leaves_full = action == Action::Leave && std::mem::take(&mut self.full);
        leaves_full.then(Vec::new)
    }

    /// Gives the log its room.
    pub(super) fn settle(&mut self, context: &Context<'_>) -> Vec<Effect> {
        let place = self.places(context.body)[1].map(panes::inner);
        if let Some(place) = place {
            self.log.change(|panel| panel.resize(place.width.into(), place.height.into()));
        }
        self.log.take_effects()
    }

    pub(super) fn click(&mut self, position: Position, context: &Context<'_>) {
        let places = self.places(context.body);
        let hit = places.iter().position(|place| place.is_some_and(|it| it.contains(position)));
        self.pane = hit.unwrap_or(self.pane);
    }
}
