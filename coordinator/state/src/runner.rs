//! Runners as the cluster knows them: facts and whether they answer. Heartbeats
//! are not here; they stay in the leader's memory.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{JobId, Lease, RunnerId, Timestamp},
    spec::Requirements,
};

/// What a runner says about itself when it connects.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunnerFacts {
    /// The id it made for itself.
    pub id: RunnerId,
    /// A name for people.
    pub name: String,
    /// What it offers.
    pub labels: BTreeSet<String>,
    /// How many jobs it runs at once.
    pub slots: u32,
    /// Baton's version on it.
    pub version: String,
    /// Changes when its host restarts.
    pub boot_id: String,
    /// Which data folder of that host it is; a copy of the folder has another one.
    pub place: String,
}

/// Whether a runner answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Connection {
    /// It has a session.
    Online,
    /// It has none.
    Unreachable,
}

/// A runner and the leases it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// What it said about itself.
    pub facts: RunnerFacts,
    /// Whether it answers.
    pub connection: Connection,
    /// When it was first seen.
    pub registered_at: Timestamp,
    /// When `connection` last changed.
    pub changed_at: Timestamp,
    /// The live leases it holds; follows from the jobs.
    pub leases: BTreeMap<Lease, JobId>,
}

impl Runner {
    /// It offers everything that is asked for.
    #[must_use]
    pub fn offers(&self, requirements: &Requirements) -> bool {
        requirements.labels.is_subset(&self.facts.labels)
    }

    /// Slots without a lease.
    #[must_use]
    pub fn free_slots(&self) -> usize {
        (self.facts.slots as usize).saturating_sub(self.leases.len())
    }

    /// Labels asked for that it lacks.
    #[must_use]
    pub fn missing<'a>(&self, requirements: &'a Requirements) -> BTreeSet<&'a str> {
        let asked = requirements.labels.iter().map(String::as_str);
        asked.filter(|label| !self.facts.labels.contains(*label)).collect()
    }
}
