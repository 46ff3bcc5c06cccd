//! Fetches what a job left, over broken connections.

use baton_proto::{
    error::{ApiError, Reason},
    v1::FetchArtifactsRequest,
};
use blake3::Hash;
use futures::StreamExt as _;

use crate::{ClientError, Connection, Patience, retry::Outage};

/// Fetches the manifest, or the chunk that `request` names, of `size` bytes and with this
/// digest, for `patience` from the last byte that came.
///
/// # Errors
/// What the coordinator refused it with, or why there is no answer;
/// [`ClientError::Refused`] when the bytes are others.
pub async fn fetch_artifacts(
    connection: &Connection,
    request: &FetchArtifactsRequest,
    digest: Hash,
    size: u64,
    patience: Patience,
) -> Result<Vec<u8>, ClientError> {
    let mut outage = Outage::new(patience);
    let mut bytes = Vec::new();
    while (bytes.len() as u64) < size {
        let before = bytes.len();
        let fetched = fetch(connection, request, size, &mut bytes).await;
        if bytes.len() > before {
            outage.over();
        }
        match fetched {
            Ok(()) if bytes.len() > before => {}
            Ok(()) => return Err(damaged()),
            Err(error) => outage.wait(error).await?,
        }
    }
    if blake3::hash(&bytes) == digest { Ok(bytes) } else { Err(damaged()) }
}

async fn fetch(
    connection: &Connection,
    request: &FetchArtifactsRequest,
    size: u64,
    bytes: &mut Vec<u8>,
) -> Result<(), ClientError> {
    let request = FetchArtifactsRequest { offset: bytes.len() as u64, ..request.clone() };
    let mut pieces = connection.jobs().fetch_artifacts(request).await?.into_inner();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let end = piece.offset + piece.data.len() as u64;
        if piece.offset != bytes.len() as u64 || end > size {
            return Err(damaged());
        }
        bytes.extend_from_slice(&piece.data);
    }
    Ok(())
}

fn damaged() -> ClientError {
    let message = "the artifacts are not those that the job left";
    let action = "fetch them again; if it stays so, look at the disks of the coordinators";
    ApiError::new(Reason::ChecksumMismatch, message, action).into()
}
