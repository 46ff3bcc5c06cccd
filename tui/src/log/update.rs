//! What keys do to the view of a log.

use std::path::PathBuf;

use super::{
    filter::Filter,
    messages::{Begin, Effect, Request},
    panel::{Live, Panel, Searching, TAIL},
    pattern::Pattern,
    rows::Place,
};
use crate::{
    keys::Action,
    text::{bytes, count, width},
};

/// Columns that one step to the side moves.
const STEP: usize = 8;
/// Terminals take no more than about this into the clipboard, in bytes.
const CLIPBOARD: usize = 64 * 1024;

impl Panel {
    /// Does what the action asks for; none where it means nothing here.
    pub(crate) fn act(&mut self, action: Action) -> Option<Vec<Effect>> {
        self.message = None;
        let height = self.height();
        match action {
            Action::Up => self.move_up(1),
            Action::Down => self.move_down(1),
            Action::HalfUp => self.move_up(height.div_ceil(2)),
            Action::HalfDown => self.move_down(height.div_ceil(2)),
            Action::PageUp => self.move_up(height.saturating_sub(1).max(1)),
            Action::PageDown => self.move_down(height.saturating_sub(1).max(1)),
            Action::Left if !self.wrap => self.left = self.left.saturating_sub(STEP),
            Action::Right if !self.wrap => self.left += STEP,
            Action::Top => return Some(self.go_to_beginning()),
            Action::Bottom => return Some(self.go_to_end()),
            Action::Follow if self.follow => self.stay(),
            Action::Follow => return Some(self.go_to_end()),
            Action::Wrap => {
                self.wrap = !self.wrap;
                self.left = 0;
            }
            Action::Times => self.times = !self.times,
            Action::FirstError => return Some(self.find_first_error()),
            Action::NextMatch => return Some(self.find_next(false)),
            Action::PreviousMatch => return Some(self.find_next(true)),
            Action::Mark => self.select(),
            Action::Copy => return Some(self.copy()),
            Action::PreviousAttempt => return Some(self.step_attempt(-1)),
            Action::NextAttempt => return Some(self.step_attempt(1)),
            Action::Leave => return self.leave(),
            _ => return None,
        }
        Some(self.fetch())
    }

    /// Looks for `text` from what is on the screen on.
    pub(crate) fn search(&mut self, text: &str) -> Vec<Effect> {
        self.current = None;
        self.pattern = Pattern::text(text);
        let Some(pattern) = &self.pattern else { return self.stop_search() };
        let top = self.screen_top().line;
        let lines = self.lines();
        let here =
            std::iter::successors(lines.at_or_after(top), |line| lines.at_or_after(line + 1))
                .find(|line| lines.text(*line).is_some_and(|text| pattern.is_in(&text.text)));
        match here {
            Some(line) => {
                self.go_to(line);
                self.fetch()
            }
            // Behind the end there is nothing to be found.
            None => self.find_next(self.live != Live::Detached),
        }
    }

    /// Shows only the lines of the window that have `text`; all when it is empty.
    pub(crate) fn filter(&mut self, text: &str) -> Vec<Effect> {
        self.selection = None;
        self.current = None;
        self.filter = Pattern::text(text).map(Filter::new);
        self.changed();
        self.fetch()
    }

    /// The text of the filter.
    pub(crate) fn filter_text(&self) -> &str {
        let pattern = self.filter.as_ref().map(Filter::pattern);
        pattern.and_then(|pattern| pattern.texts().first()).map_or("", String::as_str)
    }

    /// What [`Panel::save`] would write, for people.
    pub(crate) fn what_to_save(&self) -> &'static str {
        match (self.selection, &self.filter) {
            (Some(_), _) => "the selected lines",
            (None, Some(_)) => "the lines that are shown",
            (None, None) => "the whole log",
        }
    }

    /// A name for the file.
    pub(crate) fn file_name(&self) -> String {
        format!("{}-{}.log", self.source.job_id, self.source.attempt)
    }

    /// Writes the selected lines, those that pass the filter, or the whole log into a file.
    pub(crate) fn save(&mut self, path: PathBuf) -> Vec<Effect> {
        let chosen = self.selection.or_else(|| {
            let lines = self.lines();
            self.filter.as_ref().map(|_| (lines.first(), lines.last()))
        });
        let request = match chosen {
            Some((from, to)) => Request::SaveText(path, self.text_of(from.min(to), from.max(to))),
            None => Request::SaveAll(path),
        };
        let effect = self.ask(request);
        self.saving = Some((self.last_number(), 0));
        vec![effect]
    }

    fn move_up(&mut self, rows: usize) {
        if let Some((from, to)) = self.selection {
            let to = self.lines().up(Place { line: to, row: 0 }, rows).line;
            return self.extend(from, to);
        }
        let top = self.lines().up(self.screen_top(), rows);
        self.follow = false;
        self.top = top;
    }

    fn move_down(&mut self, rows: usize) {
        if let Some((from, to)) = self.selection {
            let lines = self.lines();
            let row = lines.rows(to).len().saturating_sub(1);
            let to = lines.down(Place { line: to, row }, rows).line;
            return self.extend(from, to);
        }
        let lines = self.lines();
        let last = lines.top_of_last(self.height());
        let top = lines.down(self.screen_top(), rows).min(last);
        self.top = top;
    }

    /// What is on the screen stays there.
    fn stay(&mut self) {
        self.top = self.screen_top();
        self.follow = false;
    }

    fn go_to_beginning(&mut self) -> Vec<Effect> {
        if let Some((from, _)) = self.selection {
            self.extend(from, self.lines().first());
            return self.fetch();
        }
        self.follow = false;
        if self.buffer.start() > 0 && self.filter.is_none() {
            return vec![self.show(0, false)];
        }
        self.top = Place { line: self.lines().first(), row: 0 };
        self.fetch()
    }

    fn go_to_end(&mut self) -> Vec<Effect> {
        if let Some((from, _)) = self.selection {
            self.extend(from, self.lines().last());
            return self.fetch();
        }
        self.follow = true;
        self.current = None;
        if matches!(self.live, Live::Detached | Live::Failed(_)) && self.source.attempt > 0 {
            return vec![self.follow_from(Begin::Tail(TAIL))];
        }
        self.fetch()
    }

    /// Begins a selection, at the line that was found or at the first on the screen.
    fn select(&mut self) {
        if self.selection.take().is_some() {
            return;
        }
        self.stay();
        let line = self.current.unwrap_or(self.top.line);
        self.selection = Some((line, line));
    }

    fn extend(&mut self, from: i64, to: i64) {
        self.selection = Some((from, to));
        let lines = self.lines();
        let (first, last) = (self.screen_top(), Place { line: to, row: 0 });
        let end = lines.down(first, self.height().saturating_sub(1));
        if last < first {
            self.top = last;
        } else if last > end {
            self.top = lines.up(last, self.height().saturating_sub(1));
        }
        self.follow = false;
    }

    /// Copies the selection, or what is on the screen.
    fn copy(&mut self) -> Vec<Effect> {
        let top = self.screen_top();
        let end = self.lines().down(top, self.height().saturating_sub(1));
        let (from, to) = self.selection.take().unwrap_or((top.line, end.line));
        let text = self.text_of(from.min(to), from.max(to));
        if text.len() > CLIPBOARD {
            let size = bytes(text.len() as u64);
            self.message = Some(format!("{size} is too much for the clipboard; save it to a file"));
            return Vec::new();
        }
        self.message = Some(format!("copied {}", count(text.lines().count(), "line")));
        vec![Effect::Copy(text)]
    }

    fn text_of(&self, from: i64, to: i64) -> String {
        let lines = self.lines();
        let numbers =
            std::iter::successors(lines.at_or_after(from), |line| lines.at_or_after(line + 1));
        let mut text = String::new();
        for number in numbers.take_while(|number| *number <= to) {
            text.push_str(&lines.text(number).unwrap_or_default().text);
            text.push('\n');
        }
        text
    }

    /// Ends what was begun last; none when there is nothing to end.
    fn leave(&mut self) -> Option<Vec<Effect>> {
        if self.searching.is_some() {
            return Some(self.stop_search());
        }
        if self.selection.take().is_some() {
            return Some(Vec::new());
        }
        if self.pattern.take().is_some() {
            self.current = None;
            return Some(Vec::new());
        }
        if self.filter.is_some() {
            return Some(self.filter(""));
        }
        None
    }

    fn stop_search(&mut self) -> Vec<Effect> {
        match self.searching.take() {
            Some(_) => vec![self.ask(Request::StopSearch)],
            None => Vec::new(),
        }
    }

    fn find_first_error(&mut self) -> Vec<Effect> {
        self.pattern = Pattern::errors();
        self.current = None;
        if self.buffer.start() > 0 && self.filter.is_none() {
            return self.search_from(0, false);
        }
        let first = self.lines().first();
        self.find_from(first - 1, false)
    }

    /// Goes to the next line that has what is looked for, or the one before.
    fn find_next(&mut self, backwards: bool) -> Vec<Effect> {
        if self.pattern.is_none() {
            self.message = Some("nothing is looked for yet".to_owned());
            return Vec::new();
        }
        let from = self.current.unwrap_or_else(|| self.screen_top().line);
        self.find_from(from, backwards)
    }

    /// Looks through the window first, and then on the server beyond it.
    fn find_from(&mut self, from: i64, backwards: bool) -> Vec<Effect> {
        if let Some(line) = self.find(from, backwards) {
            self.go_to(line);
            return self.fetch();
        }
        if self.filter.is_some() {
            self.say_not_found(backwards);
            return Vec::new();
        }
        if backwards && self.buffer.start() > 0 {
            return self.search_from(self.buffer.start(), true);
        }
        if !backwards && self.live == Live::Detached {
            // The last line may go on behind the window.
            let last = self.buffer.line(self.buffer.numbers().end - 1);
            let last = last.filter(|_| self.current != Some(self.buffer.numbers().end - 1));
            let offset = last.map_or(self.buffer.end(), |line| line.offset);
            return self.search_from(offset, false);
        }
        self.say_not_found(backwards);
        Vec::new()
    }

    fn search_from(&mut self, offset: u64, backwards: bool) -> Vec<Effect> {
        let Some(pattern) = &self.pattern else { return Vec::new() };
        let texts = pattern.texts().to_vec();
        let effect = self.ask(Request::Search { texts, offset, backwards });
        self.searching = Some(Searching { number: self.last_number(), backwards, offset });
        vec![effect]
    }

    /// The nearest line of the window that has what is looked for.
    fn find(&self, from: i64, backwards: bool) -> Option<i64> {
        let pattern = self.pattern.as_ref()?;
        let lines = self.lines();
        let next =
            |line: i64| if backwards { lines.before(line) } else { lines.at_or_after(line + 1) };
        let mut numbers = std::iter::successors(next(from), |line| next(*line));
        numbers.find(|line| lines.text(*line).is_some_and(|text| pattern.is_in(&text.text)))
    }

    /// Goes to the line of which the server has said that it has what is looked for; to the part
    /// that shows it, where a line has several.
    pub(super) fn go_to_match(&mut self, offset: u64) {
        let line = self.buffer.number_at(offset);
        let last = (line..).find(|part| !self.buffer.goes_on(*part)).unwrap_or(line);
        let shows = self.find(line - 1, false).filter(|part| *part <= last);
        self.go_to(shows.unwrap_or(line));
    }

    /// Goes to what is looked for in a line, with what is around it.
    fn go_to(&mut self, line: i64) {
        self.follow = false;
        self.current = Some(line);
        let lines = self.lines();
        let text = lines.text(line).unwrap_or_default().text;
        let found = self.pattern.as_ref().and_then(|pattern| pattern.places(&text).next());
        let start = found.map_or(0, |found| found.start);
        let row = lines.rows(line).iter().rposition(|row| row.start <= start).unwrap_or(0);
        let column = width(&text[..start]);
        let is_shown = self.wrap || (self.left..self.left + lines.width).contains(&column);
        let left = if is_shown { self.left } else { column.saturating_sub(lines.width / 2) };
        let top = lines.up(Place { line, row }, self.height() / 3);
        (self.top, self.left) = (top, left);
    }

    pub(super) fn say_not_found(&mut self, backwards: bool) {
        let where_to = match (self.current, backwards) {
            (None, _) => "not found",
            (Some(_), true) => "nothing more before this",
            (Some(_), false) => "nothing more behind this",
        };
        self.message = Some(where_to.to_owned());
    }
}
