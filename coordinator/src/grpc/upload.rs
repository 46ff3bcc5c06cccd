//! Jobs.Upload: an archive, or a manifest or a chunk of a tree, comes in, from where an earlier try stopped. Several
//! clients may bring the same one at once; it is over for all when it is whole, and on
//! a majority of the coordinators. Until then it is on this one alone: an upload that
//! breaks off goes on here or begins again elsewhere.

use baton_proto::{
    error::{ApiError, Reason},
    v1::{self, send_content_request::Item as Sent, upload_request::Item},
};
use baton_state::Lease;
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tonic::Streaming;

use super::{gone, job_id, send_log::check_lease};
use crate::{
    convert::invalid,
    files::{Appender, Digest, FileName},
    jobs::Jobs,
};

/// Takes what a client brings, of at most `limit` bytes.
pub(super) async fn upload(
    jobs: Jobs,
    limit: u64,
    mut inbound: Streaming<v1::UploadRequest>,
    answers: mpsc::Sender<v1::UploadResponse>,
) -> Result<(), ApiError> {
    let Some(Ok(v1::UploadRequest { item: Some(Item::Open(open)) })) = inbound.next().await else {
        return Err(invalid("upload", "must begin with open"));
    };
    let pieces = inbound.map(|request| match request {
        Ok(v1::UploadRequest { item: Some(Item::Chunk(chunk)) }) => Piece::Chunk(chunk),
        Ok(_) => Piece::Wrong,
        Err(_) => Piece::Broken,
    });
    let place = Place { jobs, limit, may_go_on: || Ok(()) };
    place.take(open, pieces, answers).await
}

/// Takes what a runner brings of a job that it holds the lease of.
pub(super) async fn send_content(
    jobs: Jobs,
    limit: u64,
    mut inbound: Streaming<v1::SendContentRequest>,
    answers: mpsc::Sender<v1::UploadResponse>,
) -> Result<(), ApiError> {
    let Some(Ok(v1::SendContentRequest { item: Some(Sent::Open(open)) })) = inbound.next().await
    else {
        return Err(invalid("content", "must begin with open"));
    };
    let (job, lease) = (job_id(&open.job_id)?, Lease(open.lease));
    let content = open.content.ok_or_else(|| invalid("content", "is missing"))?;
    let pieces = inbound.map(|request| match request {
        Ok(v1::SendContentRequest { item: Some(Sent::Chunk(chunk)) }) => Piece::Chunk(chunk),
        Ok(_) => Piece::Wrong,
        Err(_) => Piece::Broken,
    });
    let raft = jobs.raft.clone();
    let may_go_on = move || check_lease(&raft, job, lease).map(drop);
    Place { jobs, limit, may_go_on }.take(content, pieces, answers).await
}

/// What comes in.
enum Piece {
    Chunk(v1::FileChunk),
    /// Something that does not belong here.
    Wrong,
    /// The caller is gone.
    Broken,
}

/// Where it goes.
struct Place<F> {
    jobs: Jobs,
    limit: u64,
    /// Whether more of it is taken.
    may_go_on: F,
}

impl<F: Fn() -> Result<(), ApiError>> Place<F> {
    async fn take(
        self,
        open: v1::UploadOpen,
        inbound: impl Stream<Item = Piece> + Unpin,
        answers: mpsc::Sender<v1::UploadResponse>,
    ) -> Result<(), ApiError> {
        let Self { jobs, limit, may_go_on } = &self;
        may_go_on()?;
        let digest: Digest = open.digest.parse().map_err(|error| invalid("digest", error))?;
        if open.size > *limit {
            return Err(ApiError::new(
                Reason::TooLarge,
                format!("what is sent has {} bytes, the limit is {limit}", open.size),
                "leave files out with .batonignore, or raise the coordinator's archive limit",
            ));
        }
        jobs.uploads.keep([digest]).await;
        let name = FileName::Upload { digest };
        jobs.replication.discard_unless(digest, open.size).await?;
        let stored = jobs.files.stat(name).await?;
        if !stored.is_some_and(|stat| stat.sealed) {
            jobs.disk.check()?;
        }
        let mut appender = jobs.files.append(name, open.size).await?;
        if appender.length() < open.size {
            receive(&mut appender, open.size, inbound, may_go_on, &answers).await?;
        }
        appender.seal(open.size, digest).await?;
        jobs.uploads.keep([digest]).await;
        jobs.replication.renew_source(digest).await?;
        jobs.replication.sealed(name, digest).await;
        answers.send(response(open.size, true)).await.map_err(gone)
    }
}

/// Takes chunks until all bytes are there, from this client or from others, and
/// says how many are on disk.
async fn receive(
    appender: &mut Appender,
    size: u64,
    mut inbound: impl Stream<Item = Piece> + Unpin,
    may_go_on: &impl Fn() -> Result<(), ApiError>,
    answers: &mpsc::Sender<v1::UploadResponse>,
) -> Result<(), ApiError> {
    let mut durable = appender.durable();
    answers.send(response(durable.length()?, false)).await.map_err(gone)?;
    while appender.length() < size {
        tokio::select! {
            piece = inbound.next() => match piece {
                Some(Piece::Chunk(chunk)) => {
                    may_go_on()?;
                    appender.write(chunk.offset, chunk.data).await?;
                }
                Some(Piece::Wrong) => return Err(invalid("upload", "must go on with chunks")),
                // Others may have brought what is missing here.
                Some(Piece::Broken) | None if appender.length() >= size => return Ok(()),
                Some(Piece::Broken) | None => {
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
