//! Snapshots of the state as files: `snapshot-INDEX`, written whole or not at
//! all, checked by BLAKE3 when read.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::{Path, PathBuf},
};

use baton_state::{Index, State, snapshot};
use raft::eraftpb::ConfState;

use super::{RaftError, store::SnapshotRecord};

/// The folder of snapshots.
#[derive(Clone, Debug)]
pub(super) struct Snapshots {
    dir: PathBuf,
}

impl Snapshots {
    pub(super) fn open(dir: &Path) -> Result<Self, RaftError> {
        let dir = dir.join("snapshots");
        fs::create_dir_all(&dir).map_err(|source| RaftError::Setup { dir: dir.clone(), source })?;
        Ok(Self { dir })
    }

    /// Reads the state that a record names.
    pub(super) fn load(&self, record: &SnapshotRecord) -> Result<State, RaftError> {
        read(&self.path(record.index), record.index, &record.blake3)
    }

    /// Writes the state as of its last entry, whose term is `term`.
    pub(super) fn save(
        &self,
        state: &State,
        term: u64,
        members: &ConfState,
    ) -> Result<SnapshotRecord, RaftError> {
        let index = state.applied();
        let bytes = snapshot::encode(state);
        let path = self.path(index);
        self.write(&path, &bytes).map_err(|source| RaftError::Snapshot {
            action: "write",
            path,
            source,
        })?;
        Ok(SnapshotRecord {
            index,
            term,
            blake3: *blake3::hash(&bytes).as_bytes(),
            voters: members.voters.clone(),
            learners: members.learners.clone(),
        })
    }

    /// Takes over a file that came from another node.
    pub(super) fn adopt(&self, fetched: &Path, index: Index) -> Result<(), RaftError> {
        let path = self.path(index);
        let adopt = || {
            fs::rename(fetched, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        adopt().map_err(|source| RaftError::Snapshot { action: "keep", path: path.clone(), source })
    }

    /// Whether there is a snapshot with this last entry.
    pub(super) fn has(&self, index: Index) -> bool {
        self.path(index).exists()
    }

    fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let partial = path.with_extension("part");
        let mut file = File::create(&partial)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        File::open(&self.dir)?.sync_all()
    }

    /// The last entry of the newest snapshot there is, counted or not; 0 without any.
    pub(super) fn newest(&self) -> Result<Index, RaftError> {
        let failed = |source| RaftError::Setup { dir: self.dir.clone(), source };
        let mut newest = 0;
        for entry in fs::read_dir(&self.dir).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            let index = name.to_str().and_then(|name| name.strip_prefix("snapshot-")?.parse().ok());
            newest = newest.max(index.unwrap_or(0));
        }
        Ok(newest)
    }

    /// Removes every file but the snapshots at these entries.
    pub(super) fn keep(&self, indexes: &[Index]) -> io::Result<()> {
        let kept: Vec<PathBuf> = indexes.iter().map(|index| self.path(*index)).collect();
        for entry in fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if !kept.contains(&path) {
                fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    fn path(&self, index: Index) -> PathBuf {
        self.dir.join(format!("snapshot-{index:020}"))
    }
}

/// Reads the state that ends at `index` from a file with this BLAKE3.
pub(super) fn read(path: &Path, index: Index, blake3: &[u8; 32]) -> Result<State, RaftError> {
    let damaged = |detail: String| RaftError::DamagedSnapshot { path: path.to_owned(), detail };
    let bytes = fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => damaged("the file is gone".to_owned()),
        _ => RaftError::Snapshot { action: "read", path: path.to_owned(), source },
    })?;
    if blake3::hash(&bytes).as_bytes() != blake3 {
        return Err(damaged("its checksum does not match".to_owned()));
    }
    let state = snapshot::decode(&bytes).map_err(|error| damaged(error.to_string()))?;
    if state.applied() != index {
        return Err(damaged(format!("it ends at entry {}", state.applied())));
    }
    Ok(state)
}
