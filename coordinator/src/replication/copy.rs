//! Copies one file from one other member, through the store, so that a copy is
//! checked and flushed as what a runner sends is.

use std::time::Duration;

use baton_proto::peer::{self, read_file_response::Item};
use baton_state::NodeId;
use futures::StreamExt as _;
use tokio::time::timeout;

use super::{
    Shared,
    members::{Members, NotGiven},
    quorum::Has,
    wanted::from_millis,
    wire::{digest_from_proto, name_to_proto},
};
use crate::files::{Appender, FileName, FilesError};

/// How long a growing file is listened to without a change. After that it is asked
/// for again when the other tells that it has grown.
const LINGER: Duration = Duration::from_secs(2);
/// How long a member may take for bytes that it has.
const STALL: Duration = Duration::from_secs(10);
/// Bytes after which a growing file makes room for others that wait.
const SHARE: u64 = 4 * 1024 * 1024;

/// Why a copy was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum CopyError {
    /// The store here refused it.
    #[error(transparent)]
    Here(#[from] FilesError),
    /// The other member did not give it.
    #[error(transparent)]
    There(#[from] NotGiven),
}

/// Fetches what `node` has more of a file than this one. Ends when that is here, and
/// of a file that grows also when `is_crowded`.
pub(super) async fn copy(
    shared: &Shared,
    members: &dyn Members,
    name: FileName,
    (node, has): (NodeId, Has),
    is_crowded: impl Fn() -> bool,
) -> Result<(), CopyError> {
    let mut appender = match shared.open.take(name) {
        Some(appender) => appender,
        None => shared.files.copy(name).await?,
    };
    let is_sealed =
        copy_into(&mut appender, shared, members, name, (node, has), is_crowded).await?;
    if !is_sealed {
        shared.open.put(name, appender);
    }
    Ok(())
}

/// Whether the file is sealed by now.
async fn copy_into(
    appender: &mut Appender,
    shared: &Shared,
    members: &dyn Members,
    name: FileName,
    (node, has): (NodeId, Has),
    is_crowded: impl Fn() -> bool,
) -> Result<bool, CopyError> {
    let offset = appender.length();
    if has.sealed.is_some() && offset > has.length {
        // Whoever sealed it has compared it with what its writer promised.
        shared.files.remove(name).await?;
        return Err(there("what was here is longer than what is sealed there"));
    }
    if has.sealed.is_none() && offset >= has.length {
        // To open it was all that it took.
        return Ok(false);
    }
    let mut incoming = in_time(members.read_file(node, name_to_proto(name), offset)).await??;
    let mut at = offset;
    loop {
        let caught_up = has.sealed.is_none() && at >= has.length;
        if caught_up && is_crowded() || has.sealed.is_none() && at - offset >= SHARE && is_crowded()
        {
            return Ok(false);
        }
        let message = if caught_up {
            match timeout(LINGER, incoming.next()).await {
                Ok(message) => message,
                Err(_) => return Ok(false),
            }
        } else {
            in_time(incoming.next()).await?
        };
        match message.transpose()?.and_then(|message| message.item) {
            Some(Item::Data(data)) => {
                let length = data.len() as u64;
                let written = appender.write(at, data).await;
                repaired(shared, name, has, written).await?;
                shared.disk.took();
                at += length;
            }
            Some(Item::End(end)) => {
                seal(shared, appender, name, has, &end).await?;
                return Ok(true);
            }
            None => return Err(there("it ended before the file did")),
        }
    }
}

async fn seal(
    shared: &Shared,
    appender: &mut Appender,
    name: FileName,
    has: Has,
    end: &peer::FileEnd,
) -> Result<(), CopyError> {
    let digest = digest_from_proto(&end.blake3).ok_or_else(|| there("it gave no digest"))?;
    // One that was sealed meanwhile was changed now.
    let modified = has.sealed.map(|_| from_millis(has.modified));
    let sealed = appender.seal_as(end.length, digest, modified).await;
    repaired(shared, name, has, sealed).await
}

/// Removes what is here of a file when it is not what another member has sealed: that
/// was compared with what its writer promised. It is fetched anew then.
async fn repaired<T>(
    shared: &Shared,
    name: FileName,
    has: Has,
    result: Result<T, FilesError>,
) -> Result<T, CopyError> {
    let is_wrong = matches!(
        result,
        Err(FilesError::ChecksumMismatch { .. }
            | FilesError::LengthMismatch { .. }
            | FilesError::MalformedLog { .. })
    );
    if is_wrong && has.sealed.is_some() && is_part(shared, name).await? {
        tracing::warn!(file = %name, "what was here is not what was sealed; fetching it anew");
        shared.files.remove(name).await?;
    }
    Ok(result?)
}

async fn is_part(shared: &Shared, name: FileName) -> Result<bool, FilesError> {
    Ok(shared.files.holds(name).await?.is_some_and(|held| held.sealed.is_none()))
}

async fn in_time<T>(answer: impl Future<Output = T>) -> Result<T, NotGiven> {
    timeout(STALL, answer).await.map_err(|_| NotGiven("it gives nothing".to_owned()))
}

fn there(what: &str) -> CopyError {
    CopyError::There(NotGiven(what.to_owned()))
}
