//! What this node answers to other members about its files. The caller has checked
//! who asks.

use std::time::Duration;

use baton_proto::{
    error::{ApiError, Reason},
    peer::{self, read_file_response::Item},
};
use futures::{Stream, StreamExt as _, stream};
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::wire::{name_from_proto, state_to_proto};
use crate::files::{FileName, Files, FilesError, Follower, Grown, Listing, Names};

/// Files told of at once in the list of all.
const BATCH: usize = 256;
/// The least time between two messages about changes: what changes meanwhile goes
/// into one.
const PACE: Duration = Duration::from_millis(5);

/// Peer.WatchFiles: first everything that is here, then what changes, until `stop`.
pub(crate) fn watch_files(
    files: &Files,
    stop: CancellationToken,
) -> impl Stream<Item = Result<peer::WatchFilesResponse, ApiError>> + Send + use<> {
    // In this order, so that nothing that changes meanwhile is missed.
    let changes = files.changes();
    let telling = Telling {
        listing: Some(files.list()),
        files: files.clone(),
        changes,
        next: Instant::now(),
    };
    stream::try_unfold(telling, async |mut telling| {
        let told = telling.tell().await?;
        Ok(Some((told, telling)))
    })
    .take_until(stop.cancelled_owned())
}

/// Peer.ReadFile: the bytes from an offset on, as they come, until `stop`.
///
/// # Errors
/// What to tell the caller.
pub(crate) async fn read_file(
    files: &Files,
    name: Option<&peer::FileName>,
    offset: u64,
    stop: CancellationToken,
) -> Result<impl Stream<Item = Result<peer::ReadFileResponse, ApiError>> + Send + use<>, ApiError> {
    let name = name_from_proto(name)
        .ok_or_else(|| ApiError::new(Reason::InvalidArgument, "there is no such name", ""))?;
    let follower = files.follow(name, offset).await?;
    Ok(stream::try_unfold(Some(follower), async |follower: Option<Follower>| {
        let Some(mut follower) = follower else { return Ok(None) };
        Ok(Some(match follower.next().await? {
            Grown::Bytes(data) => (response(Item::Data(data)), Some(follower)),
            Grown::End { length, digest } => {
                let blake3 = digest.as_bytes().to_vec().into();
                (response(Item::End(peer::FileEnd { length, blake3 })), None)
            }
        }))
    })
    .take_until(stop.cancelled_owned()))
}

fn response(item: Item) -> peer::ReadFileResponse {
    peer::ReadFileResponse { item: Some(item) }
}

struct Telling {
    files: Files,
    changes: Names,
    /// What is left of the list of all.
    listing: Option<Listing>,
    /// When changes may be told again.
    next: Instant,
}

impl Telling {
    async fn tell(&mut self) -> Result<peer::WatchFilesResponse, FilesError> {
        let Some(listing) = &mut self.listing else {
            sleep_until(self.next).await;
            let names = self.changes.take().await;
            self.next = Instant::now() + PACE;
            let files = states(&self.files, names).await?;
            return Ok(peer::WatchFilesResponse { files, listed: false });
        };
        let mut names = Vec::with_capacity(BATCH);
        while names.len() < BATCH {
            match listing.next().await? {
                Some(file) => names.push(file.name),
                None => {
                    self.listing = None;
                    break;
                }
            }
        }
        let files = states(&self.files, names).await?;
        Ok(peer::WatchFilesResponse { files, listed: self.listing.is_none() })
    }
}

async fn states(files: &Files, names: Vec<FileName>) -> Result<Vec<peer::FileState>, FilesError> {
    let held = files.held(names).await?;
    Ok(held.into_iter().map(|(name, held)| state_to_proto(name, held)).collect())
}
