//! The first log of a cluster that begins with the state of another.

use std::path::Path;

use baton_state::{NodeId, State};
use raft::eraftpb::{ConfState, HardState};

use super::{RaftError, snapshots::Snapshots, store::Store};

/// Writes the log and the snapshot of a node that has everything up to the state's
/// last entry, is the only member, and has voted for nobody.
///
/// # Errors
/// When the folder cannot be written, or has a log already.
pub(crate) fn restore(
    dir: &Path,
    log_file_bytes: u64,
    node: NodeId,
    state: &State,
    term: u64,
) -> Result<(), RaftError> {
    std::fs::create_dir_all(dir)
        .map_err(|source| RaftError::Setup { dir: dir.to_owned(), source })?;
    let snapshots = Snapshots::open(dir)?;
    let mut store = Store::open(dir, node.0, log_file_bytes)?;
    if !store.is_blank() {
        let detail = "it is not empty".to_owned();
        return Err(RaftError::DamagedLog { dir: dir.to_owned(), detail });
    }
    // The file first: a record of a snapshot that is not there stops the node.
    let alone = ConfState::from((vec![node.0], Vec::new()));
    let record = snapshots.save(state, term, &alone)?;
    let hard_state = HardState { term, commit: state.applied(), ..HardState::default() };
    store.install(record, &hard_state)?;
    store.close()
}
