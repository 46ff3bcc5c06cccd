//! What keys do with jobs.

use baton_proto::v1::JobSummary;
use ratatui::layout::Position;

use super::{state::Jobs, view};
use crate::{
    event::Intent,
    keys::Action,
    operation::Operation,
    screens::{Context, Question, Step, states},
    text::count,
    widgets::table,
};

impl Jobs {
    pub(super) fn offers(&self, action: Action) -> bool {
        let chosen = self.list.chosen();
        let live = || chosen.iter().any(|job| states::is_live(job.state()));
        match action {
            Action::Cancel | Action::Priority => live(),
            Action::Retry => chosen.iter().any(|job| !states::is_live(job.state())),
            Action::Open | Action::Copy | Action::Mark | Action::MarkAll => !chosen.is_empty(),
            action => action.is_general() || super::KIND.actions.contains(&action),
        }
    }

    pub(crate) fn update(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>> {
        let page = table::page(view::places(context.body).0);
        let steps = match action {
            Action::Open => {
                let id = self.list.selected().map(|job| job.id.clone());
                id.map(|id| Step::Open("job", id)).into_iter().collect()
            }
            Action::Problems => {
                let mut filter = self.filter.clone();
                filter.toggle_problems();
                self.limit_to(filter);
                Vec::new()
            }
            Action::Leave if self.list.marked() == 0 && !self.filter.to_string().is_empty() => {
                self.limit_to(Default::default());
                Vec::new()
            }
            Action::Cancel => self.confirm(true, Operation::Cancel),
            Action::Retry => self.confirm(false, Operation::Retry),
            Action::Priority => {
                let jobs = self.list.chosen().into_iter();
                let jobs = jobs.filter(|job| states::is_live(job.state()));
                let jobs = jobs.map(|job| (job.id.clone(), named(job))).collect();
                vec![Step::Ask(Question::Priority(jobs))]
            }
            Action::Copy => {
                let ids: Vec<&str> = self.list.chosen().iter().map(|job| job.id.as_str()).collect();
                vec![Step::Do(Intent::Copy(ids.join("\n")))]
            }
            action if self.list.act(action, page) => self.more(),
            _ => return None,
        };
        Some(steps)
    }

    /// Asks about what was chosen of which `live` holds; says how many that leaves out.
    fn confirm(&self, live: bool, operation: impl Fn(String) -> Operation) -> Vec<Step> {
        let chosen = self.list.chosen();
        let (those, others): (Vec<&JobSummary>, Vec<&JobSummary>) =
            chosen.into_iter().partition(|job| states::is_live(job.state()) == live);
        let left_out = || {
            let why = if live { "ended already" } else { "not ended yet" };
            Step::Tell(format!("{} left out: {why}", count(others.len(), "job")))
        };
        let mut steps: Vec<Step> = (!others.is_empty()).then(left_out).into_iter().collect();
        let operations = those.iter().map(|job| (operation(job.id.clone()), named(job)));
        let operations: Vec<_> = operations.collect();
        steps.extend((!operations.is_empty()).then_some(Step::Confirm(operations)));
        steps
    }

    /// Asks for older ones when the end of the list is in view.
    pub(crate) fn more(&mut self) -> Vec<Step> {
        let page = self.wanted_page();
        page.map(|request| Step::OlderJobs(Box::new(request))).into_iter().collect()
    }

    pub(super) fn click(&mut self, position: Position, context: &Context<'_>) {
        if let Some(at) = table::hit(&self.list, view::places(context.body).0, position) {
            self.list.select(at);
        }
    }
}

fn named(job: &JobSummary) -> String {
    states::exact_name(&job.name, &job.id)
}
