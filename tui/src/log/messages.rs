//! What the view of a log asks for, and what it is told: the two sides of `client/log.rs`.

use std::path::PathBuf;

use baton_proto::v1::{LogEnd, LogPiece, LogStream};

/// Which output.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The job.
    pub job_id: String,
    /// Its attempt, from 1.
    pub attempt: u32,
    /// `Stdout`, `Stderr`, or `Unspecified` for both. Offsets are in what this chooses.
    pub stream: LogStream,
}

/// Where to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// Behind so many bytes.
    Offset(u64),
    /// So many bytes before the end.
    Tail(u64),
}

/// What is asked for. Each kind of request replaces the one of its kind before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Tell the output from here to the end of the attempt, as it comes.
    Follow(Begin),
    /// Do not follow any more.
    Unfollow,
    /// Tell so many bytes behind an offset, as far as they are there.
    Read {
        /// Bytes before the first one.
        offset: u64,
        /// How many.
        length: u64,
    },
    /// Tell the nearest line that has one of some texts.
    Search {
        /// What to look for, as in `SearchLogRequest`.
        texts: Vec<String>,
        /// From where.
        offset: u64,
        /// Towards the beginning.
        backwards: bool,
    },
    /// Do not search any more.
    StopSearch,
    /// Write all of the output into a new file.
    SaveAll(PathBuf),
    /// Write this into a new file.
    SaveText(PathBuf, String),
}

/// A request with the number that its answers bear.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Numbered {
    /// Grows from one request to the next.
    pub number: u64,
    /// Of which output.
    pub source: Source,
    /// What is asked for.
    pub request: Request,
}

/// An answer to the request of the number that comes with it.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// What is followed begins here.
    Began {
        /// Bytes before the first one that comes.
        offset: u64,
        /// Bytes that there are.
        length: u64,
    },
    /// Output that is followed. What there was no time to show is left out.
    Output {
        /// Bytes before the first one.
        offset: u64,
        /// In order.
        pieces: Vec<LogPiece>,
    },
    /// The attempt's output has ended; without `LogEnd` it may lack something.
    Ended(Option<LogEnd>),
    /// The connection broke, because of this, and is being made again.
    Broken(String),
    /// It is there again, and nothing is missing.
    Restored,
    /// What was asked to be read.
    Page {
        /// Bytes before the first one.
        offset: u64,
        /// In order.
        pieces: Vec<LogPiece>,
        /// Less than was asked for: here the output ends, so far.
        last: bool,
    },
    /// So far nothing was found; the search has come to this offset.
    Searched(u64),
    /// The line behind so many bytes has it.
    Found(u64),
    /// Nothing has it.
    NotFound,
    /// So many bytes are written.
    Saving(u64),
    /// The file is there or not, as was told.
    SaveOver,
    /// What was asked for cannot be done, because of this.
    Failed(String),
}

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Have `client/log.rs` do this.
    Ask(Numbered),
    /// Put this into the clipboard.
    Copy(String),
}
