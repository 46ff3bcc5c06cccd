//! A list of which one row is selected and some are marked, both by id, so that rows may come,
//! go and move under them.

use std::collections::BTreeSet;

use crate::keys::Action;

/// What a list is made of.
pub(crate) trait Row {
    /// Its own among all rows.
    fn id(&self) -> &str;
    /// It has the text, which is in lower case.
    fn has(&self, text: &str) -> bool;
    /// Somebody should look at it.
    fn is_problem(&self) -> bool {
        false
    }
}

/// Rows in the order in which they are shown.
#[derive(Debug)]
pub(crate) struct List<R> {
    rows: Vec<R>,
    /// Which of them the filter lets through.
    shown: Vec<usize>,
    filter: String,
    problems_only: bool,
    /// Absent: the first one, whichever it is.
    selected: Option<String>,
    /// Where it is among those shown.
    at: usize,
    marks: BTreeSet<String>,
}

impl<R> Default for List<R> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            shown: Vec::new(),
            filter: String::new(),
            problems_only: false,
            selected: None,
            at: 0,
            marks: BTreeSet::new(),
        }
    }
}

impl<R: Row> List<R> {
    pub(crate) fn rows(&self) -> &[R] {
        &self.rows
    }

    /// How many are shown.
    pub(crate) fn len(&self) -> usize {
        self.shown.len()
    }

    /// Where the selected one is among those shown.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// The rows shown from `first` on.
    pub(crate) fn from(&self, first: usize) -> impl Iterator<Item = &R> {
        self.shown.iter().skip(first).map(|row| &self.rows[*row])
    }

    /// Changes the rows; selection and marks stay with what they are on.
    pub(crate) fn change(&mut self, change: impl FnOnce(&mut Vec<R>)) {
        change(&mut self.rows);
        if !self.marks.is_empty() {
            let there: BTreeSet<&str> = self.rows.iter().map(Row::id).collect();
            self.marks.retain(|id| there.contains(id.as_str()));
        }
        self.refresh();
    }

    fn refresh(&mut self) {
        let passes = |row: &R| {
            (!self.problems_only || row.is_problem())
                && (self.filter.is_empty() || row.has(&self.filter))
        };
        let rows = self.rows.iter().enumerate().filter(|(_, row)| passes(row));
        self.shown = rows.map(|(at, _)| at).collect();
        let Some(selected) = &self.selected else {
            self.at = 0;
            return;
        };
        let place = self.shown.iter().position(|row| self.rows[*row].id() == selected);
        self.select(place.unwrap_or(self.at));
    }

    /// Selects the row at `at` of those shown, or the last one.
    pub(crate) fn select(&mut self, at: usize) {
        self.at = at.min(self.shown.len().saturating_sub(1));
        let row = self.shown.get(self.at).filter(|_| self.at > 0);
        self.selected = row.map(|row| self.rows[*row].id().to_owned());
    }

    pub(crate) fn selected(&self) -> Option<&R> {
        self.shown.get(self.at).map(|row| &self.rows[*row])
    }

    pub(crate) fn is_marked(&self, id: &str) -> bool {
        self.marks.contains(id)
    }

    pub(crate) fn marked(&self) -> usize {
        self.marks.len()
    }

    /// What an action is about: those marked, or else the one selected.
    pub(crate) fn chosen(&self) -> Vec<&R> {
        if self.marks.is_empty() {
            return self.selected().into_iter().collect();
        }
        self.rows.iter().filter(|row| self.marks.contains(row.id())).collect()
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.at + 1 >= self.shown.len()
    }

    pub(crate) fn filter(&self) -> &str {
        &self.filter
    }

    pub(crate) fn set_filter(&mut self, text: &str) {
        self.filter = text.to_lowercase();
        self.refresh();
    }

    pub(crate) fn shows_problems_only(&self) -> bool {
        self.problems_only
    }

    /// Does what the action asks of a list that shows `page` rows; false where it is none of its.
    pub(crate) fn act(&mut self, action: Action, page: usize) -> bool {
        let page = page.max(1);
        let last = self.shown.len().saturating_sub(1);
        match action {
            Action::Up => self.select(self.at.saturating_sub(1)),
            Action::Down => self.select(self.at + 1),
            Action::HalfUp => self.select(self.at.saturating_sub(page.div_ceil(2))),
            Action::HalfDown => self.select(self.at + page.div_ceil(2)),
            Action::PageUp => self.select(self.at.saturating_sub(page)),
            Action::PageDown => self.select(self.at + page),
            Action::Top => self.select(0),
            Action::Bottom => self.select(last),
            Action::NextMatch => self.select(if self.at >= last { 0 } else { self.at + 1 }),
            Action::PreviousMatch => self.select(self.at.checked_sub(1).unwrap_or(last)),
            Action::Problems => {
                self.problems_only = !self.problems_only;
                self.refresh();
            }
            Action::Mark => self.mark(),
            Action::MarkAll => self.mark_all(),
            Action::Leave => return self.clear(),
            _ => return false,
        }
        true
    }

    fn mark(&mut self) {
        let Some(id) = self.selected().map(|row| row.id().to_owned()) else { return };
        if !self.marks.remove(&id) {
            self.marks.insert(id);
        }
        self.select(self.at + 1);
    }

    /// Marks all that are shown; none when all are.
    fn mark_all(&mut self) {
        let ids: BTreeSet<String> =
            self.shown.iter().map(|row| self.rows[*row].id().to_owned()).collect();
        if ids.is_subset(&self.marks) {
            self.marks.clear();
        } else {
            self.marks.extend(ids);
        }
    }

    /// Takes away the marks, or else the filter; false when there is neither.
    fn clear(&mut self) -> bool {
        if !self.marks.is_empty() {
            self.marks.clear();
            return true;
        }
        let filtered = !self.filter.is_empty() || self.problems_only;
        self.filter.clear();
        self.problems_only = false;
        self.refresh();
        filtered
    }

    pub(crate) fn unmark(&mut self) {
        self.marks.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Row for String {
        fn id(&self) -> &str {
            self
        }

        fn has(&self, text: &str) -> bool {
            self.contains(text)
        }
    }

    fn list(rows: &[&str]) -> List<String> {
        let mut list = List::default();
        replace(&mut list, rows);
        list
    }

    fn replace(list: &mut List<String>, rows: &[&str]) {
        list.change(|known| *known = rows.iter().map(|&row| row.to_owned()).collect());
    }

    #[test]
    fn the_selection_stays_with_its_row() {
        let mut list = list(&["a", "b", "c"]);
        list.act(Action::Down, 10);
        replace(&mut list, &["x", "y", "a", "b", "c"]);
        assert_eq!(list.selected().unwrap(), "b");
        replace(&mut list, &["x", "c"]);
        assert_eq!(list.selected().unwrap(), "c", "the one that took its place");
        replace(&mut list, &[]);
        assert_eq!(list.selected(), None);
    }

    #[test]
    fn at_the_top_the_newest_is_selected() {
        let mut list = list(&["b"]);
        replace(&mut list, &["a", "b"]);
        assert_eq!(list.selected().unwrap(), "a");
    }

    #[test]
    fn a_mark_goes_with_its_row() {
        let mut list = list(&["a", "b", "c"]);
        list.act(Action::Mark, 10);
        list.act(Action::Mark, 10);
        assert_eq!(list.chosen(), ["a", "b"]);
        replace(&mut list, &["b", "c"]);
        assert_eq!(list.chosen(), ["b"]);
        assert!(list.act(Action::Leave, 10));
        assert_eq!(list.chosen(), ["c"], "the one selected");
        assert!(!list.act(Action::Leave, 10));
    }

    #[test]
    fn a_filter_hides_rows_and_marks_all_only_those_shown() {
        let mut list = list(&["ab", "b", "ac"]);
        list.set_filter("A");
        assert_eq!(list.len(), 2);
        list.act(Action::MarkAll, 10);
        list.set_filter("");
        assert_eq!(list.chosen(), ["ab", "ac"]);
    }
}
