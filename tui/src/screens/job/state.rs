//! What is known of one job.

use baton_proto::v1::{Job, Waiting};

use crate::{event::News, log::Log, screens::states, widgets::page::Scroll};

/// The parts of the screen, in the order in which the keys go through them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Pane {
    Record,
    Log,
}

pub(super) const PANES: [Pane; 2] = [Pane::Record, Pane::Log];

#[derive(Debug)]
pub(crate) struct JobScreen {
    pub(super) id: String,
    pub(super) job: Option<Job>,
    /// Set while it is queued.
    pub(super) waiting: Option<Waiting>,
    /// Why it is not known.
    pub(super) problem: Option<String>,
    /// Paths and sizes of what it left, once they are known.
    pub(super) artifacts: Vec<(String, u64)>,
    pub(super) scroll: Scroll,
    pub(super) log: Log,
    pub(super) pane: usize,
    pub(super) full: bool,
}

impl JobScreen {
    pub(super) fn open(id: &str) -> Self {
        Self {
            id: id.to_owned(),
            job: None,
            waiting: None,
            problem: None,
            artifacts: Vec::new(),
            scroll: Scroll::default(),
            log: Log::of_job(id),
            pane: 1,
            full: false,
        }
    }

    /// What people call it.
    pub(super) fn name(&self) -> String {
        self.job.as_ref().map_or_else(|| self.id.clone(), states::name_of)
    }

    pub(super) fn fold(&mut self, news: &News) {
        match news {
            News::Job(job, waiting) => {
                self.job = Some(Job::clone(job));
                self.problem = None;
                self.waiting.clone_from(waiting);
                self.log.change(|panel| panel.learn(job, waiting.as_ref()));
            }
            News::NoJob(problem) => self.problem = Some(problem.clone()),
            News::Artifacts(artifacts) => self.artifacts.clone_from(artifacts),
            _ => {}
        }
    }
}
