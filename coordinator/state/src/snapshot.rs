//! The state as bytes: one version byte, then MessagePack with named fields, so
//! that a later version can add some. Equal states give equal bytes.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{
    ids::{Index, JobId, NodeId, Timestamp},
    job::Job,
    member::{Level, Member},
    queue::{Paused, QueueName, Queues},
    runner::{Connection, Runner, RunnerFacts, Unhealthy},
    scheduling::Cordon,
    secret::JobTokenKey,
    state::{FleetRequest, State},
};

const VERSION: u8 = 2;

/// Bytes that are no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// There are none.
    #[error("the snapshot is empty")]
    Empty,
    /// Another version of Baton wrote it.
    #[error("snapshot version {0} is not known to this version of Baton")]
    Version(u8),
    /// They don't decode.
    #[error("the snapshot is damaged: {0}")]
    Damaged(#[from] rmp_serde::decode::Error),
    /// Something follows after its end.
    #[error("the snapshot is damaged: {0} bytes follow after its end")]
    Trailing(usize),
}

#[derive(Serialize)]
struct Written<'a> {
    applied: Index,
    evicted_at: Index,
    evicted_through: Index,
    cluster_id: &'a str,
    members: &'a BTreeMap<NodeId, Member>,
    newest_node: NodeId,
    level: Level,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_token_key: Option<&'a JobTokenKey>,
    jobs: Vec<&'a Job>,
    runners: Vec<StoredRunner>,
    requests: Vec<(&'a str, &'a [u8; 32], JobId)>,
    late: &'a BTreeMap<Index, String>,
    #[serde(rename = "removals")]
    fleet_requests: &'a BTreeMap<String, FleetRequest>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    paused: &'a BTreeMap<QueueName, Paused>,
}

#[derive(Deserialize)]
struct Read {
    applied: Index,
    evicted_at: Index,
    evicted_through: Index,
    cluster_id: String,
    members: BTreeMap<NodeId, Member>,
    newest_node: NodeId,
    level: Level,
    #[serde(default)]
    job_token_key: Option<JobTokenKey>,
    jobs: Vec<Job>,
    runners: Vec<StoredRunner>,
    requests: Vec<(String, [u8; 32], JobId)>,
    late: BTreeMap<Index, String>,
    #[serde(rename = "removals")]
    fleet_requests: BTreeMap<String, FleetRequest>,
    #[serde(default)]
    paused: BTreeMap<QueueName, Paused>,
}

#[derive(Serialize, Deserialize)]
struct StoredRunner {
    facts: RunnerFacts,
    connection: Connection,
    registered_at: Timestamp,
    changed_at: Timestamp,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    unhealthy: BTreeMap<String, Unhealthy>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cordon: Option<Cordon>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    granted: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    hidden: BTreeSet<String>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    served: bool,
}

/// The state as bytes.
#[must_use]
pub fn encode(state: &State) -> Vec<u8> {
    let written = Written {
        applied: state.applied,
        evicted_at: state.evicted_at,
        evicted_through: state.evicted_through,
        cluster_id: &state.cluster_id,
        members: &state.members,
        newest_node: state.newest_node,
        level: state.level,
        job_token_key: state.job_token_key.as_ref(),
        jobs: state.jobs.values().map(|job| &**job).collect(),
        runners: state.runners.values().map(StoredRunner::from).collect(),
        requests: state
            .requests
            .iter()
            .map(|(key, (digest, job))| (key.as_str(), digest, *job))
            .collect(),
        late: &state.late,
        fleet_requests: &state.fleet_requests,
        paused: &state.paused,
    };
    let mut bytes = vec![VERSION];
    #[expect(clippy::expect_used, reason = "writing to memory, and every type can be encoded")]
    rmp_serde::encode::write_named(&mut bytes, &written).expect("a state can be encoded");
    bytes
}

/// Reads a state back.
///
/// # Errors
/// [`SnapshotError`] when the bytes are no snapshot of a known version.
pub fn decode(bytes: &[u8]) -> Result<State, SnapshotError> {
    let (version, body) = bytes.split_first().ok_or(SnapshotError::Empty)?;
    if *version != VERSION {
        return Err(SnapshotError::Version(*version));
    }
    let mut rest = body;
    let read = Read::deserialize(&mut rmp_serde::Deserializer::new(&mut rest))?;
    if !rest.is_empty() {
        return Err(SnapshotError::Trailing(rest.len()));
    }
    let mut state = State {
        applied: read.applied,
        evicted_at: read.evicted_at,
        evicted_through: read.evicted_through,
        cluster_id: read.cluster_id,
        members: read.members,
        newest_node: read.newest_node,
        level: read.level,
        job_token_key: read.job_token_key,
        jobs: read.jobs.into_iter().map(|job| (job.id, job.into())).collect(),
        runners: read
            .runners
            .into_iter()
            .map(|stored| (stored.facts.id.clone(), stored.into()))
            .collect(),
        requests: read
            .requests
            .into_iter()
            .map(|(key, digest, job)| (key, (digest, job)))
            .collect(),
        late: read.late,
        fleet_requests: read.fleet_requests,
        paused: read.paused,
        queues: Queues::default(),
        finished: BTreeSet::new(),
        leased: 0,
    };
    state.relink();
    Ok(state)
}

impl From<&Runner> for StoredRunner {
    fn from(runner: &Runner) -> Self {
        Self {
            facts: runner.facts.clone(),
            connection: runner.connection,
            registered_at: runner.registered_at,
            changed_at: runner.changed_at,
            unhealthy: runner.unhealthy.clone(),
            cordon: runner.cordon.clone(),
            granted: runner.granted.clone(),
            hidden: runner.hidden.clone(),
            served: runner.served,
        }
    }
}

impl From<StoredRunner> for Runner {
    fn from(stored: StoredRunner) -> Self {
        Self {
            facts: stored.facts,
            connection: stored.connection,
            registered_at: stored.registered_at,
            changed_at: stored.changed_at,
            leases: BTreeMap::new(),
            on_targets: BTreeMap::new(),
            unhealthy: stored.unhealthy,
            cordon: stored.cordon,
            granted: stored.granted,
            hidden: stored.hidden,
            served: stored.served,
        }
    }
}
