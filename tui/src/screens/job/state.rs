//! What is known of one job.

use baton_proto::v1::{Job, Waiting};

use crate::{event::News, screens::states, widgets::page::Scroll};

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
            }
            News::NoJob(problem) => self.problem = Some(problem.clone()),
            News::Artifacts(artifacts) => self.artifacts.clone_from(artifacts),
            _ => {}
        }
    }
}
