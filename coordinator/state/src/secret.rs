//! Secrets of the cluster that stand in its state. No form of them that people see may
//! show them.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What the tokens of jobs are made with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JobTokenKey([u8; 32]);

impl JobTokenKey {
    /// A key of these bytes, which nobody can guess.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for JobTokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JobTokenKey(***)")
    }
}
