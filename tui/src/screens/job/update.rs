//! What keys do with a job.

use super::{KIND, state::JobScreen};
use crate::{
    event::Intent,
    keys::Action,
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
            Action::Copy => vec![Step::Do(Intent::Copy(self.id.clone()))],
            Action::Open => self.runner().map(|id| Step::Open("runner", id)).into_iter().collect(),
            action => {
                let inner = panes::inner(context.body);
                let lines = self.record(context).lines(inner.width.into()).len();
                return self.scroll.act(action, lines, inner.height.into()).then(Vec::new);
            }
        };
        Some(steps)
    }
}
