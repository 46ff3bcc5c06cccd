//! Jobs.Upload: an archive, or a manifest or a chunk of a tree, comes in, from where an earlier try stopped. Several
//! clients may bring the same one at once; it is over for all when it is whole, and on
//! a majority of the coordinators. Until then it is on this one alone: an upload that
//! breaks off goes on here or begins again elsewhere.

use baton_proto::{
    error::{ApiError, Reason},
    v1::{self, upload_request::Item},
};
use futures::StreamExt as _;
use tokio::sync::mpsc;
use tonic::Streaming;

use super::gone;
use crate::{
    convert::invalid,
    files::{Appender, Digest, FileName},
    jobs::Jobs,
};

/// Takes an archive of at most `limit` bytes.
pub(super) async fn upload(
    jobs: Jobs,
    limit: u64,
    mut inbound: Streaming<v1::UploadRequest>,
    answers: mpsc::Sender<v1::UploadResponse>,
) -> Result<(), ApiError> {
    let Some(Ok(v1::UploadRequest { item: Some(Item::Open(open)) })) = inbound.next().await else {
        return Err(invalid("upload", "must begin with open"));
    };
    let digest: Digest = open.digest.parse().map_err(|error| invalid("digest", error))?;
    if open.size > limit {
        return Err(ApiError::new(
            Reason::TooLarge,
            format!("what is sent has {} bytes, the limit is {limit}", open.size),
            "leave files out with .batonignore, or raise the coordinator's archive limit",
        ));
    }
    jobs.uploads.keep([digest]).await;
    let name = FileName::Upload { digest };
    let stored = jobs.files.stat(name).await?;
    if !stored.is_some_and(|stat| stat.sealed) {
        jobs.disk.check()?;
    }
    let mut appender = jobs.files.append(name, open.size).await?;
    if appender.length() < open.size {
        receive(&mut appender, open.size, inbound, &answers).await?;
    }
    appender.seal(open.size, digest).await?;
    jobs.uploads.keep([digest]).await;
    jobs.replication.renew_source(digest).await?;
    jobs.replication.sealed(name, digest).await;
    answers.send(response(open.size, true)).await.map_err(gone)
}

/// Takes chunks until all bytes are there, from this client or from others, and
/// says how many are on disk.
async fn receive(
    appender: &mut Appender,
    size: u64,
    mut inbound: Streaming<v1::UploadRequest>,
    answers: &mpsc::Sender<v1::UploadResponse>,
) -> Result<(), ApiError> {
    let mut durable = appender.durable();
    answers.send(response(durable.length()?, false)).await.map_err(gone)?;
    while appender.length() < size {
        tokio::select! {
            request = inbound.next() => match request {
                Some(Ok(v1::UploadRequest { item: Some(Item::Chunk(chunk)) })) => {
                    appender.write(chunk.offset, chunk.data).await?;
                }
                Some(Ok(_)) => return Err(invalid("upload", "must go on with chunks")),
                // Others may have brought what is missing here.
                Some(Err(_)) | None if appender.length() >= size => return Ok(()),
                Some(Err(_)) | None => {
                    return Err(invalid("upload", "ended before all bytes were sent"));
                }
            },
            length = durable.changed() => {
                answers.send(response(length?, false)).await.map_err(gone)?;
            }
        }
    }
    Ok(())
}

fn response(durable: u64, complete: bool) -> v1::UploadResponse {
    v1::UploadResponse { durable, complete }
}
