//! Looking for a text in a log, a few megabytes at a time, so that whoever waits can be told how
//! far it has come and can leave. Reads the file itself: what goes through a reader is made for
//! sending it on.

use std::sync::Arc;

use baton_proto::spool::{HEADER_LEN, Header, Kind, MAX_PAYLOAD};
use memchr::{memchr, memrchr};

use super::{
    Files, disk,
    entry::Entry,
    error::{FilesError, Result},
    index::{self, Point},
    line_matcher::LineMatcher,
    log::{Start, StreamFilter},
    name::FileName,
    start::{self, Located, Log},
};

/// Bytes of the file that are read at once: some frames.
const READ: usize = 16 * (HEADER_LEN + MAX_PAYLOAD);
/// The same backwards, where that goes from one point of the index to the one before.
const READ_BACK: usize = 5 * (HEADER_LEN + MAX_PAYLOAD);
/// Bytes of the file in one step.
const STEP: u64 = 16 * 1024 * 1024;
/// Lines that are enough for one step.
const FOUND: usize = 1000;
/// A line of more bytes counts as several.
const LINE_MAX: usize = 1024 * 1024;

/// A search that is under way.
pub(crate) struct LogSearch {
    files: Files,
    entry: Arc<Entry>,
    filter: StreamFilter,
    matcher: Arc<LineMatcher>,
    way: Way,
}

/// What a step has found.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Step {
    /// Counted bytes before each line that has the text, in the order of the search.
    pub(crate) found: Vec<u64>,
    /// Counted bytes before the place up to which all was looked at.
    pub(crate) looked_at: u64,
    /// Nothing is left.
    pub(crate) is_over: bool,
}

/// Where a search is. Offsets are of counted bytes.
#[derive(Clone, Debug)]
enum Way {
    Forwards(Forwards),
    Backwards(Backwards),
}

#[derive(Clone, Debug)]
struct Forwards {
    /// Where the next frame starts in the file.
    position: u64,
    /// Bytes to leave out from there.
    skip: u64,
    /// The line that has begun, and where.
    line: Vec<u8>,
    offset: u64,
}

#[derive(Clone, Debug)]
struct Backwards {
    /// What was looked at begins here.
    end: u64,
    /// The rest of the line that is before there.
    line: Vec<u8>,
}

impl Files {
    /// Looks for the lines of a log after the first `offset` counted bytes, or for those before,
    /// the last one first.
    ///
    /// # Errors
    /// [`FilesError::NotFound`] when there is no such log; [`FilesError::Damaged`],
    /// [`FilesError::Io`], [`FilesError::Stopping`].
    pub(crate) async fn search_log(
        &self,
        name: FileName,
        filter: StreamFilter,
        matcher: LineMatcher,
        offset: u64,
        backwards: bool,
    ) -> Result<LogSearch> {
        let entry = self.inner.entry(name);
        let way = if backwards {
            let length = self.log_length(name, filter).await?.ok_or(FilesError::NotFound(name))?;
            Way::Backwards(Backwards { end: offset.min(length), line: Vec::new() })
        } else {
            let (files, used) = (self.clone(), Arc::clone(&entry));
            let from = Start::Offset(offset);
            let located = self.blocking(move || start::locate(&files.inner, &used, from, filter));
            let Located::At(place) = located.await? else { return Err(FilesError::NotFound(name)) };
            let (position, skip) = (place.position, place.skip);
            Way::Forwards(Forwards { position, skip, line: Vec::new(), offset })
        };
        Ok(LogSearch { files: self.clone(), entry, filter, matcher: Arc::new(matcher), way })
    }
}

impl LogSearch {
    /// Goes on for a while. May be dropped at any time, and is not to be called again after that.
    ///
    /// # Errors
    /// [`FilesError::NotFound`] when the log is gone; [`FilesError::Damaged`],
    /// [`FilesError::Io`], [`FilesError::Stopping`].
    pub(crate) async fn step(&mut self) -> Result<Step> {
        let (files, entry, filter) = (self.files.clone(), Arc::clone(&self.entry), self.filter);
        let (matcher, mut way) = (Arc::clone(&self.matcher), self.way.clone());
        let work = move || {
            let log = start::open(&files.inner, &entry)?;
            let log = log.ok_or(FilesError::NotFound(entry.name))?;
            let source = Source { name: entry.name, log: &log, filter };
            let step = match &mut way {
                Way::Forwards(forwards) => forwards.step(&source, &matcher)?,
                Way::Backwards(backwards) => {
                    let points = start::points(&files.inner, entry.name, &log)?;
                    backwards.step(&source, &points, &matcher)?
                }
            };
            Ok((step, way))
        };
        let (step, way) = self.files.blocking(work).await?;
        self.way = way;
        Ok(step)
    }
}

impl Forwards {
    fn step(&mut self, source: &Source<'_>, matcher: &LineMatcher) -> Result<Step> {
        let mut step = Step::default();
        let first = self.position;
        while self.position - first < STEP && step.found.len() < FOUND && !step.is_over {
            let (skip, line) = (&mut self.skip, &mut self.line);
            let (bytes, is_end) = source.read(self.position, READ, skip, usize::MAX, line)?;
            self.position += bytes;
            step.is_over = is_end;
            let whole = match memrchr(b'\n', &self.line) {
                _ if is_end => self.line.len(),
                Some(end) => end + 1,
                None if self.line.len() >= LINE_MAX => self.line.len(),
                None => 0,
            };
            let lines = matcher.lines(&self.line[..whole]).into_iter();
            step.found.extend(lines.map(|at| self.offset + at as u64));
            self.line.drain(..whole);
            self.offset += whole as u64;
        }
        step.looked_at = self.offset;
        Ok(step)
    }
}

impl Backwards {
    fn step(
        &mut self,
        source: &Source<'_>,
        points: &[Point],
        matcher: &LineMatcher,
    ) -> Result<Step> {
        let mut step = Step::default();
        let mut done = 0;
        while done < STEP && step.found.len() < FOUND && self.end > 0 {
            let point = index::before_offset(points, source.filter, self.end);
            let start = point.counted(source.filter);
            // No more than lies between two points.
            let wanted = usize::try_from(self.end - start).unwrap_or(usize::MAX);
            let (mut position, mut block) = (point.position, Vec::new());
            while block.len() < wanted {
                let (bytes, is_end) =
                    source.read(position, READ_BACK, &mut 0, wanted, &mut block)?;
                if is_end && block.len() < wanted {
                    return Err(FilesError::Damaged { name: source.name, position });
                }
                position += bytes;
            }
            done += position - point.position;
            self.end = start;
            block.append(&mut self.line);
            // The first line has begun before, if there is something. It ends with what is here.
            let first = memchr(b'\n', &block).map_or(block.len(), |end| end + 1);
            let begun = if start == 0 || first >= LINE_MAX { 0 } else { first };
            let lines = matcher.lines(&block[begun..]).into_iter().rev();
            step.found.extend(lines.map(|at| start + (begun + at) as u64));
            block.truncate(begun);
            self.line = block;
        }
        // The rest of a line that is kept counts as not looked at.
        step.looked_at = self.end + self.line.len() as u64;
        step.is_over = self.end == 0;
        Ok(step)
    }
}

/// The counted bytes of a log.
struct Source<'a> {
    name: FileName,
    log: &'a Log,
    filter: StreamFilter,
}

impl Source<'_> {
    /// Appends the counted bytes of the frames at a position, less the first `skip`, until it has
    /// read `at_once` bytes of the file or there are `most`. Gives how many bytes of the file
    /// that were, and whether it ends there.
    fn read(
        &self,
        position: u64,
        at_once: usize,
        skip: &mut u64,
        most: usize,
        into: &mut Vec<u8>,
    ) -> Result<(u64, bool)> {
        let left = usize::try_from(self.log.length.saturating_sub(position)).unwrap_or(usize::MAX);
        let bytes =
            disk::read_at(&self.log.file, position, left.min(at_once)).map_err(|source| {
                FilesError::Io { action: "read", path: self.name.to_string(), source }
            })?;
        let is_end = bytes.len() < at_once || bytes.len() == left;
        let mut rest = &bytes[..];
        while let Some((header, after)) = rest.split_first_chunk::<HEADER_LEN>() {
            let at = position + (bytes.len() - rest.len()) as u64;
            let header = Header::decode(header)
                .map_err(|_| FilesError::Damaged { name: self.name, position: at })?;
            let len = header.len as usize;
            // The last frame may have come in part only.
            if after.len() < len && !is_end {
                break;
            }
            let (payload, after) = after.split_at(len.min(after.len()));
            rest = after;
            let is_counted = match header.kind {
                Kind::Stdout => self.filter != StreamFilter::Stderr,
                Kind::Stderr => self.filter != StreamFilter::Stdout,
                Kind::Note | Kind::End => false,
            };
            if is_counted {
                let left_out = usize::try_from(*skip).unwrap_or(usize::MAX).min(payload.len());
                *skip -= left_out as u64;
                let wanted = &payload[left_out..];
                into.extend_from_slice(&wanted[..wanted.len().min(most - into.len())]);
                if into.len() == most {
                    break;
                }
            }
        }
        Ok(((bytes.len() - rest.len()) as u64, is_end))
    }
}
