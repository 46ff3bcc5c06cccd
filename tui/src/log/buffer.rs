//! A window over the output of an attempt, which may be of any size: bytes by their offset,
//! and where in them the lines are. What is far from where one looks is dropped, and fetched
//! again when it is wanted.
//!
//! Lines have numbers, which mean something as long as the window lasts: they stay what they
//! are when the window grows or shrinks at either end.

use std::{collections::VecDeque, mem::size_of, ops::Range, sync::Arc};

use baton_proto::v1::{LogPiece, LogStream};

use super::{
    ansi::{self, Text},
    sgr::Sgr,
};

/// What a window holds in bytes, its lines' records included.
pub(crate) const ROOM: usize = 8 * 1024 * 1024;
/// By how much more it may grow before something is dropped.
const SLACK: usize = ROOM / 8;
/// Longer lines are shown in parts of this size, in bytes.
pub(crate) const LONGEST: usize = 16 * 1024;
/// A part ends before a control sequence that may go on behind its end.
const LONGEST_SEQUENCE: usize = 64;

/// Where a line is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// What Baton itself noted in the log.
    Note(Arc<str>),
    /// What happened here while this was watched.
    Mark(Arc<str>),
}

/// One line, or a part of a long one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Bytes of the output before it.
    pub(crate) offset: u64,
    /// Of it, its end included; 0 for notes and marks.
    pub(crate) length: usize,
    /// Where it is from.
    pub(crate) origin: Origin,
    /// When it was read from the process, in microseconds since 1970.
    pub(crate) time: Option<i64>,
    /// What it looks like at its beginning.
    sgr: Sgr,
}

impl Line {
    /// A note or a mark.
    pub(super) fn remark(offset: u64, origin: Origin, time: Option<i64>) -> Self {
        Self { offset, length: 0, origin, time, sgr: Sgr::default() }
    }

    /// Bytes of the output up to its end.
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.length as u64
    }
}

/// From where on the output came from where and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Source {
    offset: u64,
    stderr: bool,
    time: Option<i64>,
}

/// The window.
#[derive(Debug, Default)]
pub(crate) struct Buffer {
    /// Bytes of the output before the window.
    start: u64,
    bytes: Vec<u8>,
    sources: VecDeque<Source>,
    /// Notes and marks, by their offset.
    remarks: VecDeque<(u64, Origin, Option<i64>)>,
    lines: VecDeque<Line>,
    /// The number of the first line.
    first: i64,
    /// The last line has not ended.
    open: bool,
    /// What each stream looks like at its end: standard output, standard error.
    looks: [Sgr; 2],
}

impl Buffer {
    /// An empty window at an offset.
    pub(crate) fn at(offset: u64) -> Self {
        Self { start: offset, ..Self::default() }
    }

    /// Bytes of the output before the window.
    pub(crate) fn start(&self) -> u64 {
        self.start
    }

    /// Bytes of the output up to the window's end.
    pub(crate) fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// The numbers of the lines.
    pub(crate) fn numbers(&self) -> Range<i64> {
        self.first..self.first + count(self.lines.len())
    }

    /// The numbers of the lines that have ended.
    pub(crate) fn ended(&self) -> Range<i64> {
        let Range { start, end } = self.numbers();
        start..end - i64::from(self.open)
    }

    /// A line by its number.
    pub(crate) fn line(&self, number: i64) -> Option<&Line> {
        self.lines.get(usize::try_from(number - self.first).ok()?)
    }

    /// What there is to read in a line.
    pub(crate) fn text(&self, line: &Line) -> Text {
        match &line.origin {
            Origin::Note(text) | Origin::Mark(text) => Text::plain(text.as_ref()),
            Origin::Stdout | Origin::Stderr => {
                ansi::text(without_end(self.slice(line.offset, line.end())), line.sgr).0
            }
        }
    }

    /// The next line is another part of the one that the job wrote.
    pub(crate) fn goes_on(&self, number: i64) -> bool {
        let line = self.line(number);
        line.is_some_and(|line| !self.slice(line.offset, line.end()).ends_with(b"\n"))
    }

    /// The number of the line that has the byte at `offset`, or of the last one before it.
    pub(crate) fn number_at(&self, offset: u64) -> i64 {
        let index = self.lines.partition_point(|line| line.end() <= offset);
        self.first + count(index.min(self.lines.len().saturating_sub(1)))
    }

    /// What it takes of memory, in bytes.
    pub(crate) fn size(&self) -> usize {
        self.bytes.len()
            + self.lines.len() * size_of::<Line>()
            + self.sources.len() * size_of::<Source>()
            + self.remarks.iter().map(|(_, origin, _)| remark_size(origin)).sum::<usize>()
    }

    /// There is room for what follows, with nothing dropped.
    pub(crate) fn has_room(&self, pieces: &[LogPiece]) -> bool {
        let of_piece = |piece: &LogPiece| {
            let lines = memchr::memchr_iter(b'\n', &piece.data).count() + 1;
            piece.data.len() + lines * size_of::<Line>() + size_of::<Source>()
        };
        self.size() + pieces.iter().map(of_piece).sum::<usize>() <= ROOM
    }

    /// Adds what follows; what is too much is dropped at the beginning.
    pub(crate) fn append(&mut self, pieces: &[LogPiece]) {
        for piece in pieces {
            let time = micros(piece);
            match piece.stream() {
                LogStream::Note => {
                    let note = ansi::text(&piece.data, Sgr::default()).0.text;
                    self.remark(Origin::Note(note.into()), time);
                }
                stream => self.push(&piece.data, stream == LogStream::Stderr, time),
            }
        }
        if self.size() > ROOM + SLACK {
            self.drop_first();
        }
    }

    /// Says at the end what happened there.
    pub(crate) fn mark(&mut self, text: &str) {
        self.remark(Origin::Mark(text.into()), None);
    }

    /// Adds what is before the window and ends where it begins; what is too much is dropped at
    /// the end. Returns whether anything was.
    pub(crate) fn prepend(&mut self, offset: u64, pieces: &[LogPiece]) -> bool {
        let mut before = Self::at(offset);
        for piece in pieces {
            match piece.stream() {
                LogStream::Note => before.append(std::slice::from_ref(piece)),
                stream => before.take(&piece.data, stream == LogStream::Stderr, micros(piece)),
            }
        }
        debug_assert_eq!(before.end(), self.start, "pages must meet");
        let end = self.numbers().end;
        before.bytes.append(&mut self.bytes);
        before.sources.append(&mut self.sources);
        before.remarks.append(&mut self.remarks);
        before.index();
        before.first = end - count(before.lines.len());
        *self = before;
        let too_much = self.size() > ROOM + SLACK;
        if too_much {
            self.drop_last();
        }
        too_much
    }

    /// Leaves out the notes and marks at the very end: they are about to come again.
    pub(crate) fn drop_last_remarks(&mut self) {
        let end = self.end();
        while self.remarks.back().is_some_and(|(offset, ..)| *offset == end) {
            self.remarks.pop_back();
        }
        while self.lines.back().is_some_and(|line| line.length == 0 && line.offset == end) {
            self.lines.pop_back();
        }
    }

    fn slice(&self, from: u64, to: u64) -> &[u8] {
        self.bytes.get(self.index_of(from)..self.index_of(to)).unwrap_or_default()
    }

    fn index_of(&self, offset: u64) -> usize {
        usize::try_from(offset.saturating_sub(self.start)).unwrap_or(usize::MAX)
    }

    /// Adds bytes without looking for lines in them.
    fn take(&mut self, data: &[u8], stderr: bool, time: Option<i64>) {
        let source = Source { offset: self.end(), stderr, time };
        let same = |last: &Source| (last.stderr, last.time) == (stderr, time);
        if !data.is_empty() && !self.sources.back().is_some_and(same) {
            self.sources.push_back(source);
        }
        self.bytes.extend_from_slice(data);
    }

    fn push(&mut self, data: &[u8], stderr: bool, time: Option<i64>) {
        let from = self.end();
        self.take(data, stderr, time);
        self.find_lines(from, self.end(), stderr, time);
    }

    fn remark(&mut self, origin: Origin, time: Option<i64>) {
        self.remarks.push_back((self.end(), origin.clone(), time));
        self.add_remark(self.end(), origin, time);
    }

    fn add_remark(&mut self, offset: u64, origin: Origin, time: Option<i64>) {
        self.close();
        self.lines.push_back(Line::remark(offset, origin, time));
    }

    /// Finds the lines anew in all there is.
    fn index(&mut self) {
        self.lines.clear();
        self.open = false;
        self.looks = <[Sgr; 2]>::default();
        let remarks = self.remarks.clone();
        let mut remarks = remarks.into_iter().peekable();
        let sources = self.sources.clone();
        let ends = sources.iter().skip(1).map(|source| source.offset).chain([self.end()]);
        for (source, end) in sources.iter().zip(ends) {
            let mut from = source.offset;
            while let Some((offset, origin, time)) = remarks.next_if(|(offset, ..)| *offset < end) {
                self.find_lines(from, offset, source.stderr, source.time);
                self.add_remark(offset, origin, time);
                from = from.max(offset);
            }
            self.find_lines(from, end, source.stderr, source.time);
        }
        for (offset, origin, time) in remarks {
            self.add_remark(offset, origin, time);
        }
    }

    /// Finds the lines in bytes of one source, behind those that were found.
    fn find_lines(&mut self, from: u64, to: u64, stderr: bool, time: Option<i64>) {
        let origin = if stderr { Origin::Stderr } else { Origin::Stdout };
        let mut at = from;
        while at < to {
            if self.lines.back().is_some_and(|line| line.origin != origin) {
                self.close();
            }
            if !self.open {
                let sgr = self.looks[usize::from(stderr)];
                let origin = origin.clone();
                self.lines.push_back(Line { offset: at, length: 0, origin, time, sgr });
                self.open = true;
            }
            let Some(start) = self.lines.back().map(|line| line.offset) else { return };
            let limit = start + LONGEST as u64;
            let searched = self.slice(at, to.min(limit + 1));
            let (end, ended) = match memchr::memchr(b'\n', searched) {
                Some(index) => (at + index as u64 + 1, true),
                None if to > limit => (start + part(self.slice(start, limit)) as u64, true),
                None => (to, false),
            };
            self.set_end(end);
            if ended {
                self.close();
            }
            at = end;
        }
    }

    fn set_end(&mut self, end: u64) {
        if let Some(line) = self.lines.back_mut() {
            line.length = usize::try_from(end - line.offset).unwrap_or(usize::MAX);
        }
    }

    /// The last line has ended.
    fn close(&mut self) {
        if !std::mem::take(&mut self.open) {
            return;
        }
        if let Some(line) = self.lines.back() {
            let after =
                ansi::look_after(without_end(self.slice(line.offset, line.end())), line.sgr);
            self.looks[usize::from(line.origin == Origin::Stderr)] = after;
        }
    }

    fn drop_first(&mut self) {
        let mut size = self.size();
        let mut start = self.start;
        while size > ROOM && self.lines.len() > 1 {
            let Some(line) = self.lines.pop_front() else { break };
            size = size.saturating_sub(line.length + size_of::<Line>());
            start = line.end();
            self.first += 1;
            while self.sources.get(1).is_some_and(|source| source.offset <= start) {
                self.sources.pop_front();
                size = size.saturating_sub(size_of::<Source>());
            }
        }
        self.bytes.drain(..self.index_of(start).min(self.bytes.len()));
        self.start = start;
        if let Some(source) = self.sources.front_mut() {
            source.offset = source.offset.max(start);
        }
        // Those at the very beginning may have been among the lines that are gone.
        let shown = self.lines.iter().take_while(|line| line.length == 0).count();
        let before = self.remarks.partition_point(|(offset, ..)| *offset <= start);
        self.remarks.drain(..before.saturating_sub(shown));
    }

    fn drop_last(&mut self) {
        let mut size = self.size();
        while size > ROOM && self.lines.len() > 1 {
            let Some(line) = self.lines.pop_back() else { break };
            size = size.saturating_sub(line.length + size_of::<Line>());
            while self.sources.back().is_some_and(|source| source.offset >= line.offset) {
                self.sources.pop_back();
                size = size.saturating_sub(size_of::<Source>());
            }
        }
        let end = self.lines.back().map_or(self.start, Line::end);
        self.open = false;
        self.bytes.truncate(self.index_of(end));
        // Those at the very end come again with what follows.
        self.remarks.truncate(self.remarks.partition_point(|(offset, ..)| *offset < end));
        while self.lines.back().is_some_and(|line| line.length == 0 && line.offset == end) {
            self.lines.pop_back();
        }
        let last_look = |stderr: bool| {
            let origin = if stderr { Origin::Stderr } else { Origin::Stdout };
            let line = self.lines.iter().rev().find(|line| line.origin == origin)?;
            Some(ansi::look_after(without_end(self.slice(line.offset, line.end())), line.sgr))
        };
        self.looks = [false, true].map(|stderr| last_look(stderr).unwrap_or_default());
    }
}

fn count(length: usize) -> i64 {
    i64::try_from(length).unwrap_or(i64::MAX)
}

fn micros(piece: &LogPiece) -> Option<i64> {
    let time = piece.time.as_ref()?;
    Some(time.seconds.saturating_mul(1_000_000).saturating_add(i64::from(time.nanos) / 1000))
}

fn remark_size(origin: &Origin) -> usize {
    match origin {
        Origin::Note(text) | Origin::Mark(text) => text.len() + size_of::<(u64, Origin)>(),
        Origin::Stdout | Origin::Stderr => 0,
    }
}

fn without_end(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

/// How much of a long line is shown as its first part: no letter and no sequence is cut.
fn part(line: &[u8]) -> usize {
    let tail = line.len().saturating_sub(LONGEST_SEQUENCE);
    if let Some(index) = memchr::memrchr(0x1b, &line[tail..]).filter(|index| tail + index > 0) {
        return tail + index;
    }
    let is_start = |index: &usize| !matches!(line[*index], 0x80..=0xbf);
    let last = (line.len().saturating_sub(4)..line.len()).rev().find(is_start);
    match last {
        Some(index) if index > 0 && std::str::from_utf8(&line[index..]).is_err() => index,
        _ => line.len(),
    }
}

#[cfg(test)]
#[path = "buffer_tests.rs"]
mod tests;
