//! The view of a log: which part of which attempt's output is in the window, and where in it
//! one looks. `update.rs` has what keys do to it, `answers.rs` what comes for it, `view.rs` what
//! it looks like.

use baton_proto::v1::{Job, JobState, Waiting};

use super::{
    buffer::{Buffer, Line},
    filter::Filter,
    messages::{Begin, Effect, Numbered, Request, Source},
    pattern::Pattern,
    rows::{Lines, Place, said},
};
use crate::text::{bytes, clean};

/// What is fetched at once, in bytes.
pub(super) const PAGE: u64 = 128 * 1024;
/// What is fetched before the end when one begins to follow, in bytes.
pub(super) const TAIL: u64 = 64 * 1024;
/// Columns before the text: where a line is from, and whether it is found or selected.
pub(super) const GUTTER: usize = 2;
/// Columns of a time stamp.
pub(super) const TIMES: usize = 13;

/// What is said as long as nothing is known.
const LOADING: &str = "loading";

/// What is known of the end of the output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum Live {
    /// Nothing yet.
    #[default]
    Connecting,
    /// The window ends where the output does, and grows with it.
    Attached,
    /// More is behind the window.
    Detached,
    /// The window ends where the output does, and no more will come.
    Ended,
    /// It cannot be read, because of this.
    Failed(String),
}

/// What a page is read for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// It goes before the window.
    Before,
    /// It goes behind the window.
    After,
    /// It is the new window.
    Show {
        /// Of what is to be seen.
        offset: u64,
        /// It was searched for.
        found: bool,
    },
}

/// A search on the server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Searching {
    pub(super) number: u64,
    pub(super) backwards: bool,
    /// How far it has come.
    pub(super) offset: u64,
}

/// What the record says of an attempt.
#[derive(Clone, Debug)]
struct Attempt {
    number: u32,
    /// How it ended, line by line.
    ended: Option<Vec<String>>,
}

/// The view of a job's log.
#[derive(Debug)]
pub(crate) struct Panel {
    attempts: Vec<Attempt>,
    /// Why there is no attempt.
    waiting: String,
    pub(super) source: Source,
    pub(super) buffer: Buffer,
    pub(super) live: Live,
    /// Why the connection is broken.
    pub(super) broken: Option<String>,
    /// Bytes of the output, as far as is known.
    pub(super) length: u64,
    /// What is said behind the last line.
    end: Vec<Line>,
    pub(super) follow: bool,
    /// Where the screen begins, when it does not follow.
    pub(super) top: Place,
    /// Columns that are left out at the left.
    pub(super) left: usize,
    pub(super) wrap: bool,
    pub(super) times: bool,
    /// Columns and lines.
    size: (usize, usize),
    pub(super) filter: Option<Filter>,
    pub(super) pattern: Option<Pattern>,
    /// The line that was found.
    pub(super) current: Option<i64>,
    /// The line where the selection began, and the one where it is now.
    pub(super) selection: Option<(i64, i64)>,
    pub(super) message: Option<String>,
    number: u64,
    pub(super) following: u64,
    pub(super) reading: Option<(u64, Purpose)>,
    pub(super) searching: Option<Searching>,
    /// The number of the request, and the bytes that are written.
    pub(super) saving: Option<(u64, u64)>,
}

impl Panel {
    /// Of a job of which nothing is known yet.
    pub(crate) fn new(job_id: &str) -> Self {
        let mut panel = Self {
            attempts: Vec::new(),
            waiting: LOADING.to_owned(),
            source: Source { job_id: job_id.to_owned(), ..Source::default() },
            buffer: Buffer::default(),
            live: Live::Connecting,
            broken: None,
            length: 0,
            end: Vec::new(),
            follow: true,
            top: Place::default(),
            left: 0,
            wrap: true,
            times: false,
            size: (80, 24),
            filter: None,
            pattern: None,
            current: None,
            selection: None,
            message: None,
            number: 0,
            following: 0,
            reading: None,
            searching: None,
            saving: None,
        };
        panel.refresh_end();
        panel
    }

    /// Keeps nothing but how it is shown.
    pub(crate) fn forget(&mut self) {
        let (wrap, times, size) = (self.wrap, self.times, self.size);
        *self = Self { wrap, times, size, ..Self::new(&self.source.job_id) };
    }

    /// The job is this now, and waits for this.
    pub(crate) fn learn(&mut self, job: &Job, waiting: Option<&Waiting>) -> Vec<Effect> {
        let was_newest = self.is_newest();
        self.attempts = job.attempts.iter().map(attempt).collect();
        self.waiting = match (waiting, job.outcome.as_ref()) {
            (_, Some(outcome)) => format!("the job never ran: {}", clean(&outcome.message)),
            (Some(waiting), _) => format!("no attempt yet: {}", clean(&waiting.message)),
            (None, None) => "no attempt yet".to_owned(),
        };
        let newest = self.attempts.last().map_or(0, |attempt| attempt.number);
        let goes_on = was_newest && self.follow && newest != self.source.attempt;
        let effects = if goes_on { self.open(newest) } else { Vec::new() };
        self.refresh_end();
        effects
    }

    /// The panel has so many columns and lines.
    pub(crate) fn resize(&mut self, width: usize, height: usize) -> Vec<Effect> {
        self.size = (width, height);
        self.fetch()
    }

    /// The attempt that is shown, and how many there are.
    pub(crate) fn attempt(&self) -> (u32, usize) {
        (self.source.attempt, self.attempts.len())
    }

    /// All that is shown at first has come.
    pub(crate) fn is_told(&self) -> bool {
        match self.live {
            Live::Connecting => self.source.attempt == 0 && self.waiting != LOADING,
            Live::Attached | Live::Detached => self.buffer.end() >= self.length,
            Live::Ended | Live::Failed(_) => true,
        }
    }

    fn is_newest(&self) -> bool {
        self.attempts.last().is_none_or(|attempt| attempt.number == self.source.attempt)
    }

    /// Shows the output of another attempt, from its end.
    fn open(&mut self, attempt: u32) -> Vec<Effect> {
        self.source.attempt = attempt;
        self.length = 0;
        self.broken = None;
        self.replace(Buffer::default());
        self.live = Live::Connecting;
        self.follow = true;
        self.searching = None;
        vec![self.follow_from(Begin::Tail(TAIL))]
    }

    /// Shows the attempt so many before or behind this one.
    pub(super) fn step_attempt(&mut self, step: isize) -> Vec<Effect> {
        let at = self.attempts.iter().position(|attempt| attempt.number == self.source.attempt);
        let other = at.and_then(|at| self.attempts.get(at.checked_add_signed(step)?));
        match other.map(|attempt| attempt.number) {
            Some(number) => self.open(number),
            None => {
                let which = if step < 0 { "earlier" } else { "later" };
                self.message = Some(format!("there is no {which} attempt"));
                Vec::new()
            }
        }
    }

    /// Makes `buffer` the window.
    pub(super) fn replace(&mut self, buffer: Buffer) {
        self.buffer = buffer;
        self.reading = None;
        self.current = None;
        self.selection = None;
        self.filter = self.filter.take().map(|filter| Filter::new(filter.pattern().clone()));
        self.changed();
    }

    /// The window has changed.
    pub(super) fn changed(&mut self) {
        self.length = self.length.max(self.buffer.end());
        if let Some(filter) = &mut self.filter {
            filter.update(&self.buffer);
        }
        self.refresh_end();
    }

    /// What is said behind the last line.
    pub(super) fn refresh_end(&mut self) {
        let attempt = self.source.attempt;
        let known = self.attempts.iter().find(|known| known.number == attempt);
        let nothing = self.buffer.numbers().is_empty();
        let texts = match &self.live {
            _ if attempt == 0 => vec![self.waiting.clone()],
            Live::Connecting => vec![LOADING.to_owned()],
            Live::Attached if nothing => vec!["waiting for output".to_owned()],
            Live::Attached | Live::Detached => Vec::new(),
            Live::Failed(cause) => vec![format!("cannot be read: {}", clean(cause))],
            Live::Ended => {
                let mut texts = Vec::new();
                if nothing {
                    texts.push(format!("attempt {attempt} wrote nothing"));
                }
                let ended = known.and_then(|known| known.ended.clone());
                texts.extend(ended.unwrap_or_else(|| vec!["the output has ended".to_owned()]));
                texts
            }
        };
        let offset = self.buffer.end();
        let broken = self.broken.as_ref().map(|cause| format!("reconnecting: {}", clean(cause)));
        self.end = texts.iter().chain(&broken).map(|text| said(offset, text)).collect();
    }

    pub(super) fn lines(&self) -> Lines<'_> {
        let times = if self.times { TIMES } else { 0 };
        let width = self.size.0.saturating_sub(GUTTER + times).max(1);
        let filter = self.filter.as_ref();
        Lines { buffer: &self.buffer, filter, end: &self.end, width, wrap: self.wrap }
    }

    /// Lines for text.
    pub(super) fn height(&self) -> usize {
        self.size.1.saturating_sub(1).max(1)
    }

    /// The first row on the screen.
    pub(super) fn screen_top(&self) -> Place {
        let lines = self.lines();
        let last = lines.top_of_last(self.height());
        if self.follow { last } else { lines.nearest(self.top).min(last) }
    }

    /// Goes on with what is before or behind the window when one comes near it.
    pub(super) fn fetch(&mut self) -> Vec<Effect> {
        let connecting = matches!(self.live, Live::Connecting | Live::Failed(_));
        if self.reading.is_some() || self.filter.is_some() || connecting {
            return Vec::new();
        }
        let margin = i64::try_from(3 * self.height()).unwrap_or(i64::MAX);
        let top = self.screen_top().line;
        let numbers = self.buffer.numbers();
        let (start, end) = (self.buffer.start(), self.buffer.end());
        if start > 0 && top - numbers.start < margin {
            let offset = start.saturating_sub(PAGE);
            return vec![self.read(offset, start - offset, Purpose::Before)];
        }
        if self.live == Live::Detached && numbers.end - top < 2 * margin {
            return vec![self.read(end, PAGE, Purpose::After)];
        }
        Vec::new()
    }

    pub(super) fn read(&mut self, offset: u64, length: u64, purpose: Purpose) -> Effect {
        let effect = self.ask(Request::Read { offset, length });
        self.reading = Some((self.number, purpose));
        effect
    }

    /// Has what is around `offset` become the window.
    pub(super) fn show(&mut self, offset: u64, found: bool) -> Effect {
        let begin = offset.saturating_sub(PAGE / 2);
        self.read(begin, PAGE, Purpose::Show { offset, found })
    }

    pub(super) fn follow_from(&mut self, begin: Begin) -> Effect {
        let effect = self.ask(Request::Follow(begin));
        self.following = self.number;
        effect
    }

    /// What is behind the window is not wanted for now.
    pub(super) fn detach(&mut self) -> Vec<Effect> {
        let was = std::mem::replace(&mut self.live, Live::Detached);
        self.broken = None;
        self.refresh_end();
        self.following = 0;
        if was == Live::Detached { Vec::new() } else { vec![self.ask(Request::Unfollow)] }
    }

    pub(super) fn ask(&mut self, request: Request) -> Effect {
        self.number += 1;
        Effect::Ask(Numbered { number: self.number, source: self.source.clone(), request })
    }

    pub(super) fn last_number(&self) -> u64 {
        self.number
    }
}

fn attempt(attempt: &baton_proto::v1::Attempt) -> Attempt {
    let ended = attempt.outcome.as_ref().map(|outcome| {
        let mut texts = Vec::new();
        match &attempt.log {
            Some(log) if log.dropped > 0 => {
                texts.push(format!("cut: {} ({} bytes) not kept", bytes(log.dropped), log.dropped));
            }
            None if attempt.started_at.is_some() => {
                texts.push("the output may lack its end: the runner was lost".to_owned());
            }
            _ => {}
        }
        let exit = outcome.exit_code.map(|code| format!(", exit code {code}")).unwrap_or_default();
        let message = match clean(&outcome.message) {
            message if message.is_empty() => String::new(),
            message => format!(": {message}"),
        };
        let (number, state) = (attempt.number, word(outcome.state()));
        texts.push(format!("attempt {number} ended: {state}{exit}{message}"));
        texts
    });
    Attempt { number: attempt.number, ended }
}

fn word(state: JobState) -> String {
    state.as_str_name().trim_start_matches("JOB_STATE_").to_lowercase().replace('_', " ")
}
