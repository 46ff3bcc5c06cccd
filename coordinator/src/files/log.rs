//! Reading a log: pieces of the job's streams from any place, and as it grows.

use std::{fs::File, sync::Arc};

use baton_proto::{
    spool::{self, HEADER_LEN, Header, Kind},
    v1::LogEnd,
};
use bytes::{Buf as _, Bytes};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{
    Files, catalog,
    entry::{Ended, Entry, Progress},
    error::{FilesError, Result},
    fill::{Fill, Filled},
    name::{Digest, FileName},
    start::{self, Located, Place},
};

/// Where to begin reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Leaves out so many bytes of the chosen stream, or of both together.
    Offset(u64),
    /// Goes on at the `next` of a piece of the same log. A follower may ask for
    /// one that a log lost in a crash of the machine: it waits for the same bytes.
    Position(u64),
}

/// Which of the job's streams to read. Notes always come along.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamFilter {
    /// Both, as the job wrote them.
    Both,
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What to do at the end of a log that is not sealed.
#[derive(Clone, Debug)]
pub enum Follow {
    /// Stop there.
    No,
    /// Wait for more until the token is cancelled, which says that no more will
    /// come; what is there by then is still delivered. A log that does not
    /// exist yet is waited for too.
    Until(CancellationToken),
}

/// Where the bytes of a piece come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// The job's standard output.
    Stdout,
    /// The job's standard error.
    Stderr,
    /// Baton: a line of text, never part of the job's own bytes.
    Note,
}

/// What a reader finds.
#[derive(Clone, Debug, PartialEq)]
pub enum LogItem {
    /// Bytes of one stream: those of a frame, or a part of them.
    Piece {
        /// Which stream.
        stream: Stream,
        /// At least one byte, at most [`spool::MAX_PAYLOAD`]; of a note, all of it.
        data: Bytes,
        /// Microseconds since the epoch at which the runner read them.
        time_us: u64,
        /// [`Start::Position`] that goes on after this piece.
        next: u64,
    },
    /// The log is sealed and this was all of it. Has the `file_*` fields too: of what was
    /// read, for who read all of it.
    End(LogEnd),
}

impl Files {
    /// Bytes of the chosen stream of a log, or of both together, as it is now; `None` when there
    /// is no such log. Reads its index.
    ///
    /// # Errors
    /// [`FilesError::Damaged`], [`FilesError::Io`], [`FilesError::Stopping`].
    pub(crate) async fn log_length(
        &self,
        name: FileName,
        filter: StreamFilter,
    ) -> Result<Option<u64>> {
        let (files, entry) = (self.clone(), self.inner.entry(name));
        self.blocking(move || start::length(&files.inner, &entry, filter)).await
    }

    /// Opens a log for reading.
    ///
    /// # Errors
    /// [`FilesError::NotFound`] when there is no such log and it is not followed,
    /// or when the name is not that of a log;
    /// [`FilesError::BadPosition`] when no reader can have been given it, or when
    /// the log ends before it and is sealed or not followed;
    /// [`FilesError::Damaged`], [`FilesError::Io`], [`FilesError::Stopping`].
    pub async fn read_log(
        &self,
        name: FileName,
        start: Start,
        filter: StreamFilter,
        follow: Follow,
    ) -> Result<LogReader> {
        if !matches!(name, FileName::Log { .. }) {
            return Err(FilesError::NotFound(name));
        }
        let entry = self.inner.entry(name);
        let progress = entry.progress.subscribe();
        let (files, used) = (self.clone(), Arc::clone(&entry));
        let located = self.blocking(move || start::locate(&files.inner, &used, start, filter));
        let located = located.await?;
        let (place, awaited) = match (located, start, &follow) {
            (Located::At(place), ..) => (place, None),
            (Located::Missing, _, Follow::No) => return Err(FilesError::NotFound(name)),
            (_, Start::Offset(skip), _) => (Place { skip, ..Place::default() }, None),
            (_, Start::Position(0), _) => (Place::default(), None),
            (_, Start::Position(position), Follow::Until(_)) => (Place::default(), Some(position)),
            (Located::Short, Start::Position(position), Follow::No) => {
                return Err(FilesError::BadPosition { position });
            }
        };
        let is_all = place.position == 0 && awaited.is_none() && filter == StreamFilter::Both;
        Ok(LogReader {
            files: self.clone(),
            entry,
            filter,
            follow,
            progress,
            file: None,
            filling: None,
            place,
            awaited,
            hasher: is_all.then(blake3::Hasher::new),
            ahead: Bytes::new(),
            end: None,
            finished: false,
        })
    }
}

/// Reads one log in order.
#[derive(Debug)]
pub struct LogReader {
    files: Files,
    /// Keeps the appender of this log, if one comes, on the same `progress`.
    entry: Arc<Entry>,
    filter: StreamFilter,
    follow: Follow,
    progress: watch::Receiver<Progress>,
    /// The open log and whether it was sealed then. Closed while waiting.
    file: Option<(Arc<File>, bool)>,
    filling: Option<Fill>,
    place: Place,
    /// The position to go on at, until the log is long enough to have it.
    awaited: Option<u64>,
    /// Of everything that was read, for who reads all of the file.
    hasher: Option<blake3::Hasher>,
    /// Bytes of the file from the place on.
    ahead: Bytes,
    /// The end frame, once it was read.
    end: Option<LogEnd>,
    finished: bool,
}

impl LogReader {
    /// The next piece, or the end of a sealed log. `None` after the end, and
    /// where a log that is not sealed ends for now, or for good: there, a later
    /// call looks again. May be dropped at any time.
    ///
    /// # Errors
    /// [`FilesError::Removed`], [`FilesError::NotFound`] when the log is gone;
    /// [`FilesError::BadPosition`] when the log was sealed before the position
    /// that it was to go on at;
    /// [`FilesError::Damaged`], [`FilesError::Io`], [`FilesError::Stopping`].
    pub async fn next(&mut self) -> Result<Option<LogItem>> {
        if let Some(position) = self.awaited
            && !self.arrive(position).await?
        {
            return Ok(None);
        }
        loop {
            if let Some(piece) = self.take_piece()? {
                return Ok(Some(piece));
            }
            if self.finished {
                return Ok(None);
            }
            let fill = match &mut self.filling {
                Some(fill) => fill,
                none => none.insert(Fill::start(
                    &self.files,
                    &self.entry,
                    &self.follow,
                    &mut self.progress,
                    self.file.clone(),
                    (self.place.position, self.ahead.clone()),
                )?),
            };
            let filled = (&mut fill.work).await;
            let (told, sealed) = (fill.told, fill.sealed);
            self.filling = None;
            if self.take_filled(filled?) {
                continue;
            }
            if sealed || self.file.as_ref().is_some_and(|(_, sealed)| *sealed) {
                return self.finish().await;
            }
            self.file = None;
            if told {
                return Ok(None);
            }
            self.wait().await;
        }
    }

    /// Waits until the log is long enough to have `position`, and goes there;
    /// false when it will not be.
    async fn arrive(&mut self, position: u64) -> Result<bool> {
        loop {
            // In this order, so that nothing written before is missed.
            let told = matches!(&self.follow, Follow::Until(over) if over.is_cancelled());
            let progress = *self.progress.borrow_and_update();
            if progress.end == Some(Ended::Removed) {
                return Err(FilesError::Removed(self.entry.name));
            }
            let growing = progress.end.is_none();
            if !growing || progress.length.is_none_or(|length| length >= position) {
                let (files, entry) = (self.files.clone(), Arc::clone(&self.entry));
                let (start, filter) = (Start::Position(position), self.filter);
                let locate = move || start::locate(&files.inner, &entry, start, filter);
                if let Located::At(place) = self.files.blocking(locate).await? {
                    self.place = place;
                    self.awaited = None;
                    return Ok(true);
                }
            }
            if told {
                return Ok(false);
            }
            self.wait().await;
        }
    }

    /// Whether there are more bytes than before.
    fn take_filled(&mut self, filled: Option<Filled>) -> bool {
        let Some(filled) = filled else { return false };
        self.file = Some((filled.file, filled.sealed));
        let more = &filled.ahead[self.ahead.len()..];
        if let Some(hasher) = &mut self.hasher {
            hasher.update(more);
        }
        let more = !more.is_empty();
        self.ahead = filled.ahead;
        more
    }

    async fn wait(&mut self) {
        if let Follow::Until(over) = &self.follow {
            tokio::select! {
                biased;
                // The sender is in the entry that this reader holds.
                _ = self.progress.changed() => {}
                () = over.cancelled() => {}
            }
        }
    }

    async fn finish(&mut self) -> Result<Option<LogItem>> {
        let (files, name, open) = (self.files.clone(), self.entry.name, self.file.clone());
        if self.end.is_some() {
            let read = self.hasher.take().map(|hasher| Digest::from(hasher.finalize()));
            let found = self.files.blocking(move || {
                let file = open.ok_or(FilesError::NotFound(name))?.0;
                let length = file.metadata().map(|metadata| metadata.len()).map_err(|source| {
                    FilesError::Io { action: "look at", path: name.to_string(), source }
                })?;
                let noted = || catalog::sealed_digest(&files.inner.root, name);
                Ok((length, read.map_or_else(noted, Ok)?))
            });
            let (length, digest) = found.await?;
            if let Some(end) = &mut self.end {
                end.file_length = length;
                end.file_blake3 = digest.to_string();
            }
        }
        self.finished = true;
        self.file = None;
        Ok(self.end.take().map(LogItem::End))
    }

    /// The next piece from what was read ahead; `None` when that takes more bytes.
    fn take_piece(&mut self) -> Result<Option<LogItem>> {
        loop {
            let (header, done) = match self.place.inside {
                Some(inside) => inside,
                None => match self.take_header()? {
                    Some(header) => (header, 0),
                    None => return Ok(None),
                },
            };
            let left = header.len as usize - done;
            let whole = matches!(header.kind, Kind::Note | Kind::End);
            let len = left.min(self.ahead.len());
            if len < left && (whole || len == 0) {
                self.place.inside = Some((header, done));
                return Ok(None);
            }
            let data = self.ahead.split_to(len);
            self.place.position += len as u64;
            self.place.inside = (len < left).then_some((header, done + len));
            if let Some(piece) = self.choose(header, data)? {
                return Ok(Some(piece));
            }
        }
    }

    fn take_header(&mut self) -> Result<Option<Header>> {
        let Some(header) = self.ahead.first_chunk::<HEADER_LEN>() else { return Ok(None) };
        let header = Header::decode(header).map_err(|_| self.damaged())?;
        self.ahead.advance(HEADER_LEN);
        self.place.position += HEADER_LEN as u64;
        Ok(Some(header))
    }

    /// What the reader gets of some bytes of a payload, which end at the place.
    fn choose(&mut self, header: Header, mut data: Bytes) -> Result<Option<LogItem>> {
        let (stream, wanted) = match header.kind {
            Kind::Stdout => (Stream::Stdout, self.filter != StreamFilter::Stderr),
            Kind::Stderr => (Stream::Stderr, self.filter != StreamFilter::Stdout),
            Kind::Note => (Stream::Note, self.place.skip == 0),
            Kind::End => {
                self.end = Some(spool::decode_end(&data).map_err(|_| self.damaged())?);
                return Ok(None);
            }
        };
        if wanted && stream != Stream::Note {
            let skip = usize::try_from(self.place.skip).unwrap_or(usize::MAX).min(data.len());
            data.advance(skip);
            self.place.skip -= skip as u64;
        }
        if !wanted || data.is_empty() {
            return Ok(None);
        }
        let next = self.place.position;
        Ok(Some(LogItem::Piece { stream, data, time_us: header.time, next }))
    }

    fn damaged(&self) -> FilesError {
        FilesError::Damaged { name: self.entry.name, position: self.place.position }
    }
}
