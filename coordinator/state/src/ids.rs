//! Names of things. Each is its own type, so that none is taken for another.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use ulid::Ulid;

/// A position in the Raft log.
pub type Index = u64;

/// Milliseconds since the Unix epoch, stamped by the proposer of a command.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// This time and `millis` more.
    #[must_use]
    pub const fn plus(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// A coordinator's number in its cluster, at least 1. A number is never given again.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A job. Written as 26 lower-case characters that sort by time of submission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct JobId(Ulid);

impl JobId {
    /// An id from the time of submission and 80 random bits.
    #[must_use]
    pub fn new(at: Timestamp, random: u128) -> Self {
        Self(Ulid::from_parts(at.0, random))
    }

    /// The highest id there can be: where a list of the newest jobs starts.
    pub const MAX: Self = Self(Ulid(u128::MAX));

    /// The lowest id a job submitted at `at` can have.
    #[must_use]
    pub fn first_at(at: Timestamp) -> Self {
        Self(Ulid::from_parts(at.0, 0))
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.to_string().to_ascii_lowercase())
    }
}

/// A text that is no job id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a job id has 26 characters, such as 01k9zv3m5n8q2r4t6w8y0a1b2c")]
pub struct InvalidJobId;

impl FromStr for JobId {
    type Err = InvalidJobId;

    fn from_str(text: &str) -> Result<Self, InvalidJobId> {
        let id = Self(Ulid::from_string(text).map_err(|_| InvalidJobId)?);
        // The decoder also reads O as 0, I as 1 and texts beyond 128 bits; only
        // the written form, in either case, names a job.
        if id.to_string() == text.to_ascii_lowercase() { Ok(id) } else { Err(InvalidJobId) }
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for JobId {
    type Error = InvalidJobId;

    fn try_from(text: String) -> Result<Self, InvalidJobId> {
        text.parse()
    }
}

/// A lease: the Raft index that granted it. Unique and growing, so it fences
/// every later write about its job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Lease(pub Index);

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A runner: an id it made itself and keeps in its data folder.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RunnerId(pub String);

impl fmt::Display for RunnerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
