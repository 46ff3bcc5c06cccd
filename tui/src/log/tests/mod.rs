//! The view of a log with a server in place of `client/log.rs` and the coordinator.

mod scripts;
mod snapshots;

use baton_proto::v1::{Attempt, Job, JobState, LogEnd, LogPiece, LogStream, Outcome};
use jiff::tz::TimeZone;
use ratatui::{buffer::Buffer as Screen, layout::Rect};

use super::{
    ansi,
    messages::{Answer, Begin, Effect, Request},
    panel::Panel,
    pattern::Pattern,
    sgr::Sgr,
};
use crate::{
    keys::Action,
    theme::{Palette, Theme},
};

const JOB: &str = "01JOB";

fn out(data: impl AsRef<[u8]>) -> LogPiece {
    piece(LogStream::Stdout, data)
}

fn err(data: impl AsRef<[u8]>) -> LogPiece {
    piece(LogStream::Stderr, data)
}

fn piece(stream: LogStream, data: impl AsRef<[u8]>) -> LogPiece {
    let time = Some(prost_types::Timestamp { seconds: 1_772_701_507, nanos: 89_000_000 });
    let data = data.as_ref().to_vec().into();
    LogPiece { stream: stream.into(), data, time, ..LogPiece::default() }
}

/// A job with attempts, of which all but the last have ended.
fn job(attempts: u32) -> Job {
    let attempt = |number| Attempt {
        number,
        started_at: Some(prost_types::Timestamp::default()),
        outcome: (number < attempts).then(failed),
        log: (number < attempts).then(LogEnd::default),
        ..Attempt::default()
    };
    Job { id: JOB.to_owned(), attempts: (1..=attempts).map(attempt).collect(), ..Job::default() }
}

fn failed() -> Outcome {
    Outcome {
        state: JobState::Failed.into(),
        exit_code: Some(1),
        message: "exited with 1".to_owned(),
        ..Outcome::default()
    }
}

/// What the coordinator and `client/log.rs` would do.
#[derive(Default)]
struct Server {
    pieces: Vec<LogPiece>,
    over: bool,
    /// The number of the request to follow that goes on, and how far it was told.
    following: Option<(u64, u64)>,
    /// What was asked for beside that.
    requests: Vec<Request>,
    copied: Vec<String>,
    /// Leave what is asked for unanswered.
    silent: bool,
}

impl Server {
    fn new(pieces: Vec<LogPiece>) -> Self {
        Self { pieces, ..Self::default() }
    }

    fn length(&self) -> u64 {
        self.pieces.iter().map(counted).sum()
    }

    /// What is between two offsets, with the notes there.
    fn between(&self, from: u64, to: u64) -> Vec<LogPiece> {
        let mut offset = 0;
        let mut chosen = Vec::new();
        for piece in &self.pieces {
            let end = offset + counted(piece);
            let (start, stop) = (from.clamp(offset, end) - offset, to.clamp(offset, end) - offset);
            if start < stop {
                let data = piece.data.slice(start as usize..stop as usize);
                chosen.push(LogPiece { data, ..piece.clone() });
            } else if piece.stream() == LogStream::Note && (from..to).contains(&offset) {
                chosen.push(piece.clone());
            }
            offset = end;
        }
        chosen
    }

    /// Carries out effects, and those of their answers, until there are no more.
    fn run(&mut self, panel: &mut Panel, effects: Vec<Effect>) {
        let mut effects = std::collections::VecDeque::from(effects);
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Copy(text) => self.copied.push(text),
                Effect::Ask(asked) => {
                    for answer in self.answer(asked.number, asked.request) {
                        effects.extend(panel.answer(asked.number, answer));
                    }
                }
            }
        }
    }

    fn answer(&mut self, number: u64, request: Request) -> Vec<Answer> {
        self.requests.push(request.clone());
        if self.silent {
            return Vec::new();
        }
        let length = self.length();
        match request {
            Request::Follow(begin) => {
                let offset = match begin {
                    Begin::Offset(offset) => offset,
                    Begin::Tail(tail) => length.saturating_sub(tail),
                };
                self.following = Some((number, length));
                let pieces = self.between(offset, u64::MAX);
                let mut answers = vec![Answer::Began { offset, length }];
                if !pieces.is_empty() {
                    answers.push(Answer::Output { offset, pieces });
                }
                if self.over {
                    answers.push(Answer::Ended(None));
                }
                answers
            }
            Request::Unfollow => {
                self.following = None;
                Vec::new()
            }
            Request::Read { offset, length: wanted } => {
                let pieces = self.between(offset, offset + wanted);
                vec![Answer::Page { offset, pieces, last: offset + wanted > length }]
            }
            Request::Search { texts, offset, backwards } => {
                let found = self.search(&texts, offset, backwards);
                vec![Answer::Searched(offset), found.map_or(Answer::NotFound, Answer::Found)]
            }
            Request::SaveText(..) => vec![Answer::SaveOver],
            Request::SaveAll(_) => vec![Answer::Saving(1)],
            Request::StopSearch => Vec::new(),
        }
    }

    fn search(&self, texts: &[String], offset: u64, backwards: bool) -> Option<u64> {
        let bytes: Vec<u8> =
            self.between(0, u64::MAX).iter().flat_map(|piece| piece.data.to_vec()).collect();
        let patterns: Vec<_> = texts.iter().filter_map(|text| Pattern::text(text)).collect();
        let mut at = 0;
        let mut lines = Vec::new();
        for line in bytes.split_inclusive(|byte| *byte == b'\n') {
            let text = ansi::text(line, Sgr::default()).0.text;
            if patterns.iter().any(|pattern| pattern.is_in(&text)) {
                lines.push(at);
            }
            at += line.len() as u64;
        }
        if backwards {
            lines.into_iter().rev().find(|line| *line < offset)
        } else {
            lines.into_iter().find(|line| *line >= offset)
        }
    }

    /// The job writes more.
    fn grow(&mut self, panel: &mut Panel, pieces: Vec<LogPiece>) {
        let offset = self.length();
        self.pieces.extend(pieces.clone());
        if let Some((number, _)) = self.following {
            let effects = panel.answer(number, Answer::Output { offset, pieces });
            self.run(panel, effects);
        }
    }

    fn act(&mut self, panel: &mut Panel, actions: &[Action]) {
        for action in actions {
            let effects = panel.act(*action).unwrap_or_default();
            self.run(panel, effects);
        }
    }
}

fn counted(piece: &LogPiece) -> u64 {
    if piece.stream() == LogStream::Note { 0 } else { piece.data.len() as u64 }
}

/// The log of a job's only attempt, as one sees it at first.
fn open(server: &mut Server) -> Panel {
    open_sized(server, 60, 8)
}

fn open_sized(server: &mut Server, width: usize, height: usize) -> Panel {
    let mut panel = Panel::new(JOB);
    server.run_with(&mut panel, |panel| panel.resize(width, height));
    server.run_with(&mut panel, |panel| panel.learn(&job(1), None));
    panel
}

impl Server {
    fn run_with(&mut self, panel: &mut Panel, change: impl FnOnce(&mut Panel) -> Vec<Effect>) {
        let effects = change(panel);
        self.run(panel, effects);
    }
}

fn drawn(panel: &Panel, width: u16, height: u16, palette: Palette) -> Screen {
    let mut screen = Screen::empty(Rect::new(0, 0, width, height));
    panel.draw(screen.area, &mut screen, Theme::new(palette, false), &TimeZone::UTC);
    screen
}

fn row(screen: &Screen, y: u16) -> String {
    let mut text = String::new();
    let mut x = 0;
    while x < screen.area.width {
        let symbol = screen[(x, y)].symbol();
        text.push_str(symbol);
        x += u16::try_from(crate::text::width(symbol)).unwrap().max(1);
    }
    text.trim_end().to_owned()
}

/// The rows of text and the line below them.
fn shown(panel: &Panel) -> Vec<String> {
    let screen = drawn(panel, 60, 8, Palette::Mono);
    (0..8).map(|y| row(&screen, y)).collect()
}

fn numbered(lines: std::ops::Range<usize>) -> Vec<u8> {
    lines.flat_map(|number| format!("line {number}\n").into_bytes()).collect()
}
