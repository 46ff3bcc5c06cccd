//! What keys do with queues.

use baton_proto::v1::QueueName;

use super::state::{Line, Queues, requirements};
use crate::{
    event::Intent,
    keys::Action,
    operation::Operation,
    screens::{Context, Step},
    widgets::table,
};

impl Queues {
    pub(super) fn offers(&self, action: Action) -> bool {
        let chosen = self.list.chosen();
        match action {
            Action::PauseQueue => chosen.iter().any(|line| line.queue.paused.is_none()),
            Action::ResumeQueue => chosen.iter().any(|line| line.queue.paused.is_some()),
            Action::Open | Action::Copy | Action::Mark | Action::MarkAll => !chosen.is_empty(),
            action => action.is_general() || super::KIND.actions.contains(&action),
        }
    }

    pub(super) fn update(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>> {
        let steps = match action {
            Action::Open => self.list.selected().map(jobs_of).into_iter().collect(),
            Action::PauseQueue => self.confirm(false, Operation::PauseQueue),
            Action::ResumeQueue => self.confirm(true, Operation::ResumeQueue),
            Action::Copy => {
                let names = self.list.chosen().into_iter();
                let names: Vec<_> = names.map(|line| line.name().project).collect();
                vec![Step::Do(Intent::Copy(names.join("\n")))]
            }
            action if self.list.act(action, table::page(context.body)) => Vec::new(),
            _ => return None,
        };
        Some(steps)
    }

    fn confirm(&self, paused: bool, operation: fn(QueueName) -> Operation) -> Vec<Step> {
        let chosen = self.list.chosen().into_iter();
        let those = chosen.filter(|line| line.queue.paused.is_some() == paused);
        let operations: Vec<_> = those
            .map(|line| {
                let name = line.name();
                let subject = format!("{} ({})", name.project, requirements(&name));
                (operation(name), subject)
            })
            .collect();
        if operations.is_empty() { Vec::new() } else { vec![Step::Confirm(operations)] }
    }
}

/// Its live jobs, as far as jobs can be chosen by what a queue is.
fn jobs_of(line: &Line) -> Step {
    let name = line.name();
    let labels = name.labels.iter().map(|label| format!(" label:{label}"));
    let filter = format!("state:queued,leased,running project:{}", name.project);
    Step::Open("jobs", filter + &labels.collect::<String>())
}
