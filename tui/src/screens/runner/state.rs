//! What is known of one runner.

use baton_proto::v1::{Health, Runner, WatchFleetRequest};

use crate::{
    event::{News, Wants},
    screens::{events::Events, jobs::Jobs},
    time::timestamp,
    widgets::{
        list::{List, Row},
        page::Scroll,
    },
};

/// The parts of the screen, in the order in which the keys go through them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pane {
    Health,
    Jobs,
    Checks,
    Events,
}

pub(super) const PANES: [Pane; 4] = [Pane::Health, Pane::Jobs, Pane::Checks, Pane::Events];

#[derive(Debug)]
pub(crate) struct RunnerScreen {
    /// Its id, or its name as long as no more is known.
    pub(super) id: String,
    pub(super) runner: Option<Runner>,
    /// The list of all runners is known, and it is not in it.
    pub(super) is_gone: bool,
    pub(super) jobs: Jobs,
    pub(super) events: Events,
    pub(super) checks: List<Check>,
    pub(super) scroll: Scroll,
    pub(super) pane: usize,
    pub(super) full: bool,
}

/// What it found once.
#[derive(Debug)]
pub(super) struct Check {
    id: String,
    pub(super) health: Health,
}

impl Row for Check {
    fn id(&self) -> &str {
        &self.id
    }

    fn has(&self, text: &str) -> bool {
        self.health.problem.to_lowercase().contains(text)
    }

    fn is_problem(&self) -> bool {
        !self.health.problem.is_empty() || self.health.executors.iter().any(|it| it.failures > 0)
    }
}

impl RunnerScreen {
    pub(super) fn open(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            runner: None,
            is_gone: false,
            jobs: Jobs::of_runner(id),
            events: Events::about(format!("runner:{id}")),
            checks: List::default(),
            scroll: Scroll::default(),
            pane: 0,
            full: false,
        }
    }

    pub(super) fn name(&self) -> &str {
        self.runner.as_ref().map_or(&self.id, |runner| &runner.name)
    }

    pub(super) fn wants(&self) -> Wants {
        let jobs = self.jobs.wants().fleet.jobs;
        let events = self.events.wants().fleet.events;
        let fleet =
            WatchFleetRequest { runners: true, jobs, events, ..WatchFleetRequest::default() };
        Wants { fleet, checks: Some(self.id.clone()), ..Wants::default() }
    }

    pub(super) fn fold(&mut self, news: &News) {
        self.jobs.fold(news);
        self.events.fold(news);
        match news {
            News::Fleet(update) => {
                let Some(changes) = &update.runners else { return };
                // Another one may be called as this one's id is.
                let by_id = changes.changed.iter().find(|runner| runner.id == self.id);
                let by_name = || changes.changed.iter().find(|runner| runner.name == self.id);
                let found = by_id.or_else(|| by_name().filter(|_| self.runner.is_none())).cloned();
                if let Some(runner) = found {
                    self.learn(runner);
                } else if changes.reset || changes.gone.contains(&self.id) {
                    (self.is_gone, self.runner) = (true, None);
                }
            }
            News::Checks(checks) => {
                let check = |health: &Health| {
                    let time = timestamp(health.time.as_ref()).unwrap_or_default();
                    Check { id: time.to_string(), health: health.clone() }
                };
                self.checks.change(|rows| *rows = checks.iter().rev().map(check).collect());
            }
            _ => {}
        }
    }

    fn learn(&mut self, runner: Runner) {
        self.is_gone = false;
        // Its events are found by its id alone.
        if self.id != runner.id {
            self.id.clone_from(&runner.id);
            self.jobs = Jobs::of_runner(&runner.id);
            self.events = Events::about(format!("runner:{}", runner.id));
        }
        self.runner = Some(runner);
    }
}
