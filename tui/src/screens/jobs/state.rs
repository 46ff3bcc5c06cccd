//! The jobs that are known, newest first: a window that the watch keeps up to date, which grows at
//! its old end by pages.

use std::{cmp::Reverse, collections::HashSet};

use baton_proto::v1::{JobChanges, JobSummary, ListJobsRequest, WatchFleetRequest};

use super::filter::Filter;
use crate::{
    event::{News, Wants},
    screens::states,
    time::{timestamp, to_proto},
    widgets::list::List,
};

/// How many jobs come at once.
const PAGE: u32 = 200;
/// Not more than so many are kept; whoever looks for older ones filters.
const MOST: usize = 20_000;

#[derive(Debug, Default)]
pub(crate) struct Jobs {
    pub(super) list: List<JobSummary>,
    pub(super) filter: Filter,
    older: Older,
}

/// What is known about jobs that are older than the oldest one of the list.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
enum Older {
    /// There may be some.
    #[default]
    Perhaps,
    Asked,
    None,
}

impl Jobs {
    pub(super) fn open(filter: &str) -> Self {
        // What does not say what it filters by is a name.
        Self { filter: filter.parse().unwrap_or_default(), ..Self::default() }
    }

    pub(crate) fn of_runner(runner: &str) -> Self {
        Self { filter: Filter::of_runner(runner), ..Self::default() }
    }

    pub(super) fn title(&self) -> String {
        let filter = self.filter.to_string();
        let marked = match self.list.marked() {
            0 => String::new(),
            marked => format!(" ({marked} marked)"),
        };
        let gap = if filter.is_empty() { "" } else { " " };
        format!("Jobs{gap}{filter}{marked}")
    }

    pub(crate) fn wants(&self) -> Wants {
        let jobs = Some(self.filter.request(PAGE));
        Wants {
            fleet: WatchFleetRequest { jobs, ..WatchFleetRequest::default() },
            ..Wants::default()
        }
    }

    pub(crate) fn list(&self) -> &List<JobSummary> {
        &self.list
    }

    pub(crate) fn list_mut(&mut self) -> &mut List<JobSummary> {
        &mut self.list
    }

    /// Shows other jobs. Those that are known may not be among them, so nobody acts on them.
    pub(super) fn limit_to(&mut self, filter: Filter) {
        if filter != self.filter {
            self.filter = filter;
            self.list.unmark();
            self.list.change(Vec::clear);
        }
    }

    pub(crate) fn fold(&mut self, news: &News) {
        match news {
            News::Fleet(update) => {
                if let Some(changes) = &update.jobs {
                    self.change(changes);
                }
            }
            News::OlderJobs(jobs, more) => self.add_older(jobs.iter().map(states::summary), *more),
            News::NoPage(_) if self.older == Older::Asked => self.older = Older::Perhaps,
            _ => {}
        }
    }

    fn change(&mut self, changes: &JobChanges) {
        let older = &mut self.older;
        self.list.change(|rows| {
            if changes.reset {
                rows.clear();
                let whole = changes.changed.len() >= PAGE as usize;
                *older = if whole { Older::Perhaps } else { Older::None };
            }
            let gone: HashSet<&str> = changes.gone.iter().map(String::as_str).collect();
            if !gone.is_empty() {
                rows.retain(|job| !gone.contains(job.id.as_str()));
            }
            let oldest = rows.last().map(|job| job.id.clone());
            let everything = *older == Older::None || changes.reset;
            for job in &changes.changed {
                match rows.binary_search_by_key(&Reverse(&job.id), |known| Reverse(&known.id)) {
                    Ok(at) => rows[at] = job.clone(),
                    Err(at) => {
                        let newer = oldest.as_ref().is_none_or(|oldest| *oldest < job.id);
                        if newer || everything {
                            rows.insert(at, job.clone());
                        }
                    }
                }
            }
            if rows.len() > MOST {
                rows.truncate(MOST);
                *older = Older::None;
            }
        });
    }

    fn add_older(&mut self, jobs: impl Iterator<Item = JobSummary>, more: bool) {
        self.list.change(|rows| {
            for job in jobs {
                if let Err(at) =
                    rows.binary_search_by_key(&Reverse(&job.id), |row| Reverse(&row.id))
                {
                    rows.insert(at, job);
                }
            }
        });
        let full = self.list.rows().len() >= MOST;
        self.older = if more && !full { Older::Perhaps } else { Older::None };
    }

    /// The page to ask for when the end of the list is in view.
    pub(super) fn wanted_page(&mut self) -> Option<ListJobsRequest> {
        let oldest = self.list.rows().last().filter(|_| self.list.is_at_end())?;
        if self.older != Older::Perhaps {
            return None;
        }
        let submitted = timestamp(oldest.submitted_at.as_ref())?;
        // Others may have come in the same millisecond.
        let before = submitted.checked_add(jiff::SignedDuration::from_millis(1)).ok()?;
        self.older = Older::Asked;
        let submitted_before = Some(to_proto(before));
        Some(ListJobsRequest { submitted_before, ..self.filter.request(PAGE) })
    }
}

#[cfg(test)]
mod tests {
    use baton_proto::v1::{Job, JobState, WatchFleetResponse};

    use super::*;
    use crate::keys::Action;

    fn job(number: u32) -> JobSummary {
        JobSummary {
            id: format!("{number:026}"),
            submitted_at: Some(prost_types::Timestamp { seconds: number.into(), nanos: 0 }),
            ..JobSummary::default()
        }
    }

    fn told(jobs: &mut Jobs, reset: bool, changed: Vec<JobSummary>, gone: &[u32]) {
        let gone = gone.iter().map(|number| job(*number).id).collect();
        let changes = JobChanges { reset, changed, gone };
        let update = WatchFleetResponse { jobs: Some(changes), ..WatchFleetResponse::default() };
        jobs.fold(&News::Fleet(Box::new(update)));
    }

    fn numbers(jobs: &Jobs) -> Vec<u32> {
        jobs.list.rows().iter().map(|job| job.id.parse().unwrap()).collect()
    }

    #[test]
    fn changes_are_folded_newest_first() {
        let mut jobs = Jobs::default();
        told(&mut jobs, true, vec![job(5), job(4), job(3)], &[]);
        let running = JobSummary { state: JobState::Running.into(), ..job(4) };
        told(&mut jobs, false, vec![job(6), running.clone()], &[3]);
        assert_eq!(numbers(&jobs), [6, 5, 4]);
        assert_eq!(jobs.list.rows()[2], running);
        told(&mut jobs, true, vec![job(9)], &[]);
        assert_eq!(numbers(&jobs), [9]);
    }

    #[test]
    fn what_is_older_than_the_window_is_left_out_until_one_scrolls_there() {
        let mut jobs = Jobs::default();
        let window: Vec<JobSummary> = (1000..1000 + PAGE).rev().map(job).collect();
        told(&mut jobs, true, window, &[]);
        told(&mut jobs, false, vec![job(7)], &[]);
        assert_eq!(jobs.list.len(), PAGE as usize);
        assert_eq!(jobs.wanted_page(), None, "the end is not in view");
        jobs.list.act(Action::Bottom, 10);
        let request = jobs.wanted_page().unwrap();
        let before = request.submitted_before.unwrap();
        assert_eq!((before.seconds, before.nanos), (1000, 1_000_000));
        assert_eq!(jobs.wanted_page(), None, "it was asked for");
        let older = (998..=1000).rev().map(|number| Job { id: job(number).id, ..Job::default() });
        jobs.fold(&News::OlderJobs(older.collect(), true));
        assert_eq!(numbers(&jobs)[PAGE as usize - 1..], [1000, 999, 998]);
        jobs.list.act(Action::Bottom, 10);
        assert_eq!(jobs.wanted_page(), None, "it has no time to go on from");
        told(&mut jobs, false, vec![job(998)], &[]);
        assert!(jobs.wanted_page().is_some());
        jobs.fold(&News::OlderJobs(Vec::new(), false));
        told(&mut jobs, false, vec![job(7)], &[]);
        assert_eq!(numbers(&jobs).last(), Some(&7), "all there are are known");
        assert_eq!(jobs.wanted_page(), None);
    }
}
