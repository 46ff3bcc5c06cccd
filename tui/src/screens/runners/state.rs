//! The runners that are known, by name.

use std::collections::{BTreeMap, BTreeSet};

use baton_proto::v1::{Runner, RunnerChanges, RunnerState, WatchFleetRequest};

use crate::{
    event::{News, Wants},
    widgets::list::{List, Row},
};

#[derive(Debug, Default)]
pub(crate) struct Runners {
    pub(super) list: List<Runner>,
}

impl Row for Runner {
    fn id(&self) -> &str {
        &self.id
    }

    fn has(&self, text: &str) -> bool {
        let values = [&self.name, &self.id, &self.version];
        values.into_iter().chain(&self.labels).any(|value| value.to_lowercase().contains(text))
    }

    fn is_problem(&self) -> bool {
        self.state() != RunnerState::Online || !self.unhealthy.is_empty()
    }
}

/// Folds what changed into `rows`.
pub(in crate::screens) fn fold(rows: &mut Vec<Runner>, changes: &RunnerChanges) {
    if changes.reset {
        rows.clear();
    }
    let gone: BTreeSet<&str> = changes.gone.iter().map(String::as_str).collect();
    let mut changed: BTreeMap<&str, &Runner> =
        changes.changed.iter().map(|runner| (runner.id.as_str(), runner)).collect();
    rows.retain(|runner| !gone.contains(runner.id.as_str()));
    for known in rows.iter_mut() {
        if let Some(runner) = changed.remove(known.id.as_str()) {
            *known = runner.clone();
        }
    }
    rows.extend(changed.into_values().cloned());
    rows.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
}

impl Runners {
    pub(super) fn title(&self) -> String {
        let mut parts = vec!["Runners".to_owned()];
        parts.extend((!self.list.filter().is_empty()).then(|| format!("/{}", self.list.filter())));
        parts.extend(self.list.shows_problems_only().then(|| "problems only".to_owned()));
        parts.extend((self.list.marked() > 0).then(|| format!("({} marked)", self.list.marked())));
        parts.join(" ")
    }

    pub(super) fn wants(&self) -> Wants {
        let fleet = WatchFleetRequest { runners: true, ..WatchFleetRequest::default() };
        Wants { fleet, ..Wants::default() }
    }

    pub(super) fn fold(&mut self, news: &News) {
        let News::Fleet(update) = news else { return };
        if let Some(changes) = &update.runners {
            self.list.change(|rows| fold(rows, changes));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_folded_by_name() {
        let runner = |id: &str, name: &str, slots| Runner {
            id: id.to_owned(),
            name: name.to_owned(),
            slots,
            ..Runner::default()
        };
        let mut rows = Vec::new();
        let mut told = |reset, changed, gone: &[&str]| {
            let gone = gone.iter().map(|&id| id.to_owned()).collect();
            fold(&mut rows, &RunnerChanges { reset, changed, gone });
            rows.iter().map(|runner| format!("{}{}", runner.name, runner.slots)).collect::<Vec<_>>()
        };
        assert_eq!(told(true, vec![runner("1", "b", 1), runner("2", "a", 1)], &[]), ["a1", "b1"]);
        assert_eq!(
            told(false, vec![runner("1", "b", 2), runner("3", "c", 1)], &["2"]),
            ["b2", "c1"]
        );
        assert_eq!(told(true, Vec::new(), &[]), [""; 0]);
    }
}
