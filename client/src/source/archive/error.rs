//! Why an archive cannot be brought along, in words that say what to do about it.

use std::{fmt, io};

use super::super::amount::Amount;
use super::super::layout::LayoutFault;
use super::super::layout::entry::{Refusal, shown};

const WHAT_SHOWN: usize = 300;

/// Why an archive could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// No byte in it.
    #[error("it is empty; whatever was to write it may have failed")]
    Empty,
    /// Compressed in a way, or an archive of a kind, that is not read.
    #[error("it is {kind}, which is not supported; {remedy}")]
    Foreign {
        /// "compressed with xz" and the like.
        kind: &'static str,
        /// What to do instead.
        remedy: &'static str,
    },
    /// Nothing that is known.
    #[error(
        "it is no tar archive, neither plain nor compressed with gzip or zstd; make one with: \
         tar -czf FILE -C FOLDER ."
    )]
    NotTar,
    /// Compressed, and then not an archive.
    #[error(
        "what is compressed in it with {compression} is no tar archive; make one with: \
         tar -czf FILE -C FOLDER ."
    )]
    NotTarWithin {
        /// "gzip" or "zstd".
        compression: &'static str,
    },
    /// Cut off, altered, or followed by something.
    #[error("it is damaged {place}: {what}; make it or fetch it again")]
    Damaged {
        /// How far it could be read.
        place: Place,
        /// What is wrong there.
        what: String,
    },
    /// An entry that the runner would refuse.
    #[error("entry {number}, {entry}, is refused: {reason}{}", remedy(*reason))]
    Refused {
        /// Its place: 1 is the first.
        number: u64,
        /// Its name, quoted, cut to a bearable length.
        entry: String,
        /// What is wrong with it.
        reason: Refusal,
    },
    /// It unpacks to more than a runner would.
    #[error(
        "it is too large: {place} it has unpacked to more than {}, which is the limit; leave \
         files out",
        Amount(*limit)
    )]
    Unpacked {
        /// Where the limit was passed.
        place: Place,
        /// The limit, in bytes.
        limit: u64,
    },
    /// More entries than an archive may have.
    #[error("it has more than {limit} entries; leave some out")]
    Entries {
        /// The limit.
        limit: u64,
    },
    /// Names and extended headers of one entry, or padding, larger than any real ones.
    #[error("it has more than {} of headers or padding {place}; make it again", Amount(*limit))]
    Headers {
        /// Where.
        place: Place,
        /// The limit, in bytes.
        limit: u64,
    },
    /// Compressed as it is sent, it outgrew its limit.
    #[error(
        "it is too large: {} compressed so far {place}, and {} is the limit; leave files out",
        Amount(*size), Amount(*limit)
    )]
    Packed {
        /// Where the limit was passed.
        place: Place,
        /// Compressed bytes so far.
        size: u64,
        /// The limit, in compressed bytes.
        limit: u64,
    },
    /// Its bytes could not be read.
    #[error("it cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The temporary file for what is sent cannot be written.
    #[error("cannot write the source archive to a temporary file: {0}")]
    Temporary(#[source] io::Error),
    /// The caller asked to stop.
    #[error("reading the archive was cancelled")]
    Cancelled,
}

impl ArchiveError {
    pub(super) fn damaged(place: &Place, what: &str) -> Self {
        // A library may have put a name into it.
        let escaped = |character: char| match character.is_control() {
            true => char::REPLACEMENT_CHARACTER,
            false => character,
        };
        let what = what.chars().take(WHAT_SHOWN).map(escaped).collect();
        Self::Damaged { place: place.clone(), what }
    }
}

/// How far into an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// Before any entry.
    Start,
    /// Between this entry and the next one.
    After(EntryPlace),
    /// In this entry's content.
    Within(EntryPlace),
}

/// One entry among others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntryPlace {
    /// 1 is the first.
    pub number: u64,
    /// Its name as it stands in the archive.
    pub name: Vec<u8>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start => f.write_str("at its beginning"),
            Self::After(entry) => write!(f, "after entry {}, {}", entry.number, shown(&entry.name)),
            Self::Within(entry) => write!(f, "in entry {}, {}", entry.number, shown(&entry.name)),
        }
    }
}

fn remedy(reason: Refusal) -> &'static str {
    match reason {
        Refusal::Layout(LayoutFault::Absolute | LayoutFault::Parent) => {
            "; make the archive with names below one folder, as tar -C FOLDER . does"
        }
        // Tells it itself.
        Refusal::Layout(LayoutFault::LinkAbsolute) => "",
        Refusal::Layout(_) | Refusal::Device | Refusal::Pipe | Refusal::Kind(_) => {
            "; leave it out, as tar's --exclude does"
        }
        Refusal::Sparse => "; make the archive without tar's --sparse",
        Refusal::HardLink => {
            "; put that file in before it, or make the archive with tar's --hard-dereference"
        }
        Refusal::Taken => "; leave one of them out",
        Refusal::Content | Refusal::Header => "; make the archive again",
    }
}
