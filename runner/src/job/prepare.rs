//! Brings the job's code into its work folder.

use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use baton_client::{ClientError, Connection};
use baton_proto::v1;
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::{
    source::archive::{UnpackError, UnpackLimits, unpack},
    untrusted,
};

/// The wait after a broken transfer.
const RETRY_AFTER: Duration = Duration::from_millis(500);

/// Chunks that may wait to be written.
const CHUNKS: usize = 4;

/// Why the code could not be brought.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    /// The coordinator refused, for good.
    #[error("the source could not be fetched: {0}")]
    Fetch(ClientError),
    /// The bytes are not those that were uploaded.
    #[error("the source arrived damaged")]
    Damaged,
    /// The coordinator has no more bytes.
    #[error(
        "the source is damaged where the coordinator keeps it: {length} of {size} bytes are there"
    )]
    Short {
        /// Bytes that came.
        length: u64,
        /// Bytes that the job was submitted with.
        size: u64,
    },
    /// The archive could not be unpacked.
    #[error("the source could not be unpacked: {0}")]
    Unpack(#[from] UnpackError),
    /// This machine failed.
    #[error("the source could not be stored: {0}")]
    Io(#[from] io::Error),
}

impl PrepareError {
    /// Another attempt would meet the same.
    pub(super) fn is_permanent(&self) -> bool {
        match self {
            Self::Unpack(error) => error.is_permanent(),
            Self::Fetch(_) | Self::Damaged | Self::Short { .. } | Self::Io(_) => false,
        }
    }
}

/// Fetches the archive and unpacks it into `work`; stops soon after it is dropped.
pub(super) async fn bring_source(
    mut link: watch::Receiver<Option<Connection>>,
    assign: &v1::Assign,
    archive: &v1::Archive,
    file: PathBuf,
    work: PathBuf,
    unpack_limit: u64,
) -> Result<(), PrepareError> {
    let (chunks, received) = mpsc::channel(CHUNKS);
    let stored_in = file.clone();
    let storing = tokio::task::spawn_blocking(move || store(&stored_in, received));
    let mut fetch = Fetch { chunks, length: 0 };
    while fetch.length < archive.size {
        let Ok(connection) = link.wait_for(Option::is_some).await.map(|link| link.clone()) else {
            return Err(io::Error::other("the runner is stopping").into());
        };
        let Some(connection) = connection else {
            continue;
        };
        let before = fetch.length;
        match fetch.transfer(&connection, assign).await {
            // All of it, or the way to another coordinator.
            Ok(Transferred::All) if fetch.length > before => {}
            Ok(Transferred::All) => {
                return Err(PrepareError::Short { length: before, size: archive.size });
            }
            Ok(Transferred::NotStored) => break,
            Err(PrepareError::Fetch(error)) if error.is_temporary() => {
                warn!(job = assign.job_id, %error, "fetching the source broke off; going on soon");
                tokio::time::sleep(RETRY_AFTER).await;
            }
            Err(error) => return Err(error),
        }
    }
    drop(fetch);
    let digest = storing.await.map_err(io::Error::other)??;
    if digest.to_hex().as_str() != archive.digest {
        return Err(PrepareError::Damaged);
    }
    unpack_file(&file, work, unpack_limit).await?;
    tokio::fs::remove_file(&file).await?;
    Ok(())
}

/// Writes what comes to a new file until no more does; the hash of all of it.
fn store(file: &Path, mut chunks: mpsc::Receiver<Bytes>) -> io::Result<blake3::Hash> {
    let mut file = File::create_new(file)?;
    let mut hasher = blake3::Hasher::new();
    while let Some(chunk) = chunks.blocking_recv() {
        hasher.update(&chunk);
        file.write_all(&chunk)?;
    }
    Ok(hasher.finalize())
}

struct Fetch {
    /// To [`store`].
    chunks: mpsc::Sender<Bytes>,
    /// Bytes passed on.
    length: u64,
}

/// How a transfer ended without an error of its own.
enum Transferred {
    /// The stream is at its end.
    All,
    /// Nobody stores it any more: [`store`] knows why.
    NotStored,
}

impl Fetch {
    /// Goes on where it stopped, until the stream ends.
    async fn transfer(
        &mut self,
        connection: &Connection,
        assign: &v1::Assign,
    ) -> Result<Transferred, PrepareError> {
        let request = v1::FetchSourceRequest {
            job_id: assign.job_id.clone(),
            lease: assign.lease,
            offset: self.length,
        };
        let fetch = |status| PrepareError::Fetch(ClientError::from(status));
        let mut chunks =
            connection.runners().fetch_source(request).await.map_err(fetch)?.into_inner();
        while let Some(chunk) = chunks.message().await.map_err(fetch)? {
            if chunk.offset != self.length {
                return Err(PrepareError::Damaged);
            }
            let length = chunk.data.len() as u64;
            if self.chunks.send(chunk.data).await.is_err() {
                return Ok(Transferred::NotStored);
            }
            self.length += length;
        }
        Ok(Transferred::All)
    }
}

async fn unpack_file(file: &Path, work: PathBuf, limit: u64) -> Result<(), PrepareError> {
    let file = file.to_owned();
    let given_up = Arc::new(AtomicBool::new(false));
    let _guard = SetOnDrop(Arc::clone(&given_up));
    let unpacking = tokio::task::spawn_blocking(move || {
        let archive = untrusted::open_to_read(&file)?;
        let limits = UnpackLimits { bytes: limit, ..UnpackLimits::default() };
        unpack(archive, &work, &limits, &|| given_up.load(Ordering::Relaxed))
            .map_err(PrepareError::from)
    });
    unpacking.await.map_err(io::Error::other)??;
    Ok(())
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
