//! Fetches a snapshot. What was received is kept on disk and gone on with after a broken
//! connection, and after a restart.

use std::{
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::Duration,
};

use baton_proto::{
    error::{ApiError, Reason},
    peer::{SnapshotEnd, SnapshotPart, SnapshotRequest, snapshot_response::Item},
};
use baton_state::{Index, NodeId};
use tokio::{
    fs::{self, File, OpenOptions},
    io::AsyncWriteExt as _,
    time::{Instant, timeout_at},
};
use tonic::Status;
use tracing::debug;

use crate::peers::{Directory, retry::Delays};

/// A fetch that gets nothing for so long has failed.
pub(in crate::peers) const PATIENCE: Duration = Duration::from_secs(60);
/// A snapshot to fetch, as [`crate::raft::Fetch`] says.
pub(in crate::peers) struct Wanted {
    pub(in crate::peers) from: NodeId,
    pub(in crate::peers) index: Index,
    pub(in crate::peers) state_blake3: [u8; 32],
    pub(in crate::peers) into: PathBuf,
}

/// Why the stream of a part has ended before its end.
enum Broken {
    /// It may go on.
    Lost(Status),
    /// It cannot.
    Failed(io::Error),
    /// What is here is not the beginning of what is there.
    Obsolete(io::Error),
}

/// Fetches both parts; they are whole and on disk when this returns. Gives up when
/// nothing comes for `patience`.
pub(in crate::peers) async fn fetch(
    directory: &Directory,
    wanted: &Wanted,
    patience: Duration,
) -> io::Result<()> {
    fs::create_dir_all(&wanted.into).await?;
    let state = Part::of(wanted, SnapshotPart::State);
    let history = Part::of(wanted, SnapshotPart::History);
    remove_all_but(&wanted.into, &[&state, &history]).await?;
    for part in [state, history] {
        if !part.is_here().await? {
            part.fetch(directory, wanted, patience).await?;
        }
    }
    Ok(())
}

async fn remove_all_but(folder: &Path, parts: &[&Part]) -> io::Result<()> {
    let mut entries = fs::read_dir(folder).await?;
    while let Some(entry) = entries.next_entry().await? {
        let path = entry.path();
        if !parts.iter().any(|part| part.whole == path || part.partial == path) {
            fs::remove_file(path).await?;
        }
    }
    Ok(())
}

/// A part and its files.
struct Part {
    part: SnapshotPart,
    whole: PathBuf,
    /// Named after its source: copies of the history differ from member to member.
    partial: PathBuf,
    /// BLAKE3 of the whole, where Raft has said it.
    announced: Option<[u8; 32]>,
}

impl Part {
    fn of(wanted: &Wanted, part: SnapshotPart) -> Self {
        let index = wanted.index;
        let (name, announced) = match part {
            SnapshotPart::History => (format!("history-{index:020}"), None),
            _ => (format!("state-{index:020}"), Some(wanted.state_blake3)),
        };
        let partial = wanted.into.join(format!("{name}.{}.part", wanted.from));
        Self { part, whole: wanted.into.join(name), partial, announced }
    }

    /// Whether an earlier fetch has got it.
    async fn is_here(&self) -> io::Result<bool> {
        if !fs::try_exists(&self.whole).await? {
            return Ok(false);
        }
        let here = match self.announced {
            Some(announced) => hash(&self.whole).await?.finalize() == announced,
            None => true,
        };
        if !here {
            fs::remove_file(&self.whole).await?;
        }
        Ok(here)
    }

    async fn fetch(
        &self,
        directory: &Directory,
        wanted: &Wanted,
        patience: Duration,
    ) -> io::Result<()> {
        let mut growing = Growing::open(&self.partial).await?;
        let mut delays = Delays::default();
        let end = loop {
            let before = growing.length;
            let request = SnapshotRequest {
                hello: Some(directory.hello(wanted.from)),
                index: wanted.index,
                part: self.part.into(),
                offset: before,
            };
            let give_up = |growing: &Growing| growing.grown_at + patience;
            let error = match receive(directory, wanted.from, request, &mut growing, patience).await
            {
                Ok(end) => break end,
                Err(Broken::Lost(status)) if Instant::now() < give_up(&growing) => status,
                Err(Broken::Lost(status)) => return Err(io::Error::other(status)),
                Err(Broken::Failed(error)) => return Err(error),
                Err(Broken::Obsolete(error)) => {
                    fs::remove_file(&self.partial).await?;
                    return Err(error);
                }
            };
            debug!(member = %wanted.from, part = ?self.part, %error, "the fetch of a snapshot was cut");
            if growing.length > before {
                delays = Delays::default();
            }
            delays.wait().await;
        };
        self.finish(growing, &end).await
    }

    /// Checks what has come, and gives it its name.
    async fn finish(&self, growing: Growing, end: &SnapshotEnd) -> io::Result<()> {
        let hash = growing.hasher.finalize();
        let announced = self.announced.is_none_or(|announced| hash == announced);
        if growing.length != end.length || hash.as_bytes()[..] != end.blake3[..] || !announced {
            fs::remove_file(&self.partial).await?;
            let message = format!("{:?} of the snapshot has not come as it was sent", self.part);
            return Err(io::Error::new(ErrorKind::InvalidData, message));
        }
        growing.file.sync_all().await?;
        fs::rename(&self.partial, &self.whole).await?;
        match self.whole.parent() {
            Some(folder) => File::open(folder).await?.sync_all().await,
            None => Ok(()),
        }
    }
}

/// Receives what comes after what is here.
async fn receive(
    directory: &Directory,
    from: NodeId,
    request: SnapshotRequest,
    growing: &mut Growing,
    patience: Duration,
) -> Result<SnapshotEnd, Broken> {
    let peer = directory.peer(from);
    let peer = peer.ok_or_else(|| Status::unavailable("the member is not known"))?;
    let mut client = peer.bulk();
    let late = |_| Status::deadline_exceeded("nothing comes");
    let asked = timeout_at(growing.grown_at + patience, client.snapshot(request)).await;
    let mut pieces = asked.map_err(late)??.into_inner();
    loop {
        let piece = timeout_at(growing.grown_at + patience, pieces.message()).await;
        match piece.map_err(late)??.and_then(|piece| piece.item) {
            Some(Item::Data(data)) => growing.push(&data).await.map_err(Broken::Failed)?,
            Some(Item::End(end)) => return Ok(end),
            None => return Err(Broken::Lost(Status::unavailable("the stream has ended early"))),
        }
    }
}

impl From<Status> for Broken {
    fn from(status: Status) -> Self {
        match ApiError::from_status(&status) {
            Some(error) if error.reason.is_temporary() => Self::Lost(status),
            Some(error) => match error.reason {
                Reason::SnapshotNotFound | Reason::OffsetGap => {
                    Self::Obsolete(io::Error::new(ErrorKind::NotFound, error))
                }
                _ => Self::Failed(io::Error::other(error)),
            },
            None => Self::Lost(status),
        }
    }
}

/// A file that what is received is appended to.
struct Growing {
    file: File,
    hasher: blake3::Hasher,
    length: u64,
    grown_at: Instant,
}

impl Growing {
    async fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).open(path).await?;
        let hasher = hash(path).await?;
        Ok(Self { file, length: hasher.count(), hasher, grown_at: Instant::now() })
    }

    async fn push(&mut self, data: &[u8]) -> io::Result<()> {
        self.file.write_all(data).await?;
        // So that an error is known, and what counts is in the file.
        self.file.flush().await?;
        self.hasher.update(data);
        self.length += data.len() as u64;
        self.grown_at = Instant::now();
        Ok(())
    }
}

async fn hash(path: &Path) -> io::Result<blake3::Hasher> {
    let path = path.to_owned();
    let hashing = tokio::task::spawn_blocking(move || {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::open(path)?)?;
        Ok(hasher)
    });
    hashing.await.map_err(io::Error::other)?
}
