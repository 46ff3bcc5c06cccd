//! What keys do with runners.

use baton_proto::v1::{Runner, RunnerState};

use super::{state::Runners, view};
use crate::{
    event::Intent,
    keys::Action,
    operation::Operation,
    screens::{Context, Question, Step, states},
    widgets::table,
};

/// Whether an action about runners can be asked for; none where it is not about them.
pub(in crate::screens) fn offers_for(chosen: &[&Runner], action: Action) -> Option<bool> {
    Some(match action {
        Action::Open | Action::Copy | Action::Mark | Action::MarkAll => !chosen.is_empty(),
        action => {
            let fits = fits(action)?;
            chosen.iter().any(|runner| fits(runner))
        }
    })
}

/// For which runners an action makes sense.
fn fits(action: Action) -> Option<fn(&Runner) -> bool> {
    Some(match action {
        Action::Cordon => |runner| !states::is_cordoned(runner),
        Action::Drain => |_| true,
        Action::ResumeRunner => states::is_cordoned,
        Action::Lift => |runner| !runner.unhealthy.is_empty(),
        Action::RemoveRunner => {
            |runner| runner.state() == RunnerState::Unreachable && runner.leases.is_empty()
        }
        _ => return None,
    })
}

/// Asks about those of `chosen` for which the action makes sense; none where it is not about
/// runners.
pub(in crate::screens) fn confirm(chosen: &[&Runner], action: Action) -> Option<Vec<Step>> {
    let fits = fits(action)?;
    let those = chosen.iter().filter(|runner| fits(runner));
    let those: Vec<_> = those.map(|runner| (runner.id.clone(), named(runner))).collect();
    if those.is_empty() {
        return Some(Vec::new());
    }
    let operation: fn(String) -> Operation = match action {
        Action::Drain => return Some(vec![Step::Ask(Question::Drain(those))]),
        Action::Cordon => Operation::Cordon,
        Action::ResumeRunner => Operation::ResumeRunner,
        Action::Lift => Operation::Lift,
        _ => Operation::RemoveRunner,
    };
    Some(vec![Step::Confirm(those.into_iter().map(|(id, name)| (operation(id), name)).collect())])
}

fn named(runner: &Runner) -> String {
    states::exact_name(&runner.name, &runner.id)
}

impl Runners {
    pub(super) fn update(&mut self, action: Action, context: &Context<'_>) -> Option<Vec<Step>> {
        if let Some(steps) = confirm(&self.list.chosen(), action) {
            return Some(steps);
        }
        let steps = match action {
            Action::Open => {
                let id = self.list.selected().map(|runner| runner.id.clone());
                id.map(|id| Step::Open("runner", id)).into_iter().collect()
            }
            Action::Copy => {
                let names: Vec<_> =
                    self.list.chosen().iter().map(|runner| runner.name.as_str()).collect();
                vec![Step::Do(Intent::Copy(names.join("\n")))]
            }
            action if self.list.act(action, table::page(view::places(context.body).0)) => {
                Vec::new()
            }
            _ => return None,
        };
        Some(steps)
    }
}
