//! Runners.SendLog: the output of one attempt comes in. Every write is fenced
//! by the attempt's lease.

use baton_proto::{
    error::{ApiError, Reason},
    v1::{self, send_log_request::Item},
};
use baton_state::{JobId, Lease};
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use super::{gone, job_id};
use crate::{
    convert::invalid,
    errors::from_propose,
    files::{Digest, FileName, Files},
    raft::{ProposeError, RaftHandle},
    replication::Replication,
};

/// Bytes of a log for each byte of output, at most: a frame's header and one byte.
const OVERHEAD: u64 = 14;
/// For notes and the end.
const NOTES: u64 = 1024 * 1024;

/// What it takes to take output.
pub(crate) struct LogStore {
    /// Knows whose lease is current.
    pub(crate) raft: RaftHandle,
    pub(crate) files: Files,
    pub(crate) replication: Replication,
}

/// Takes the output of one attempt.
pub(crate) async fn send_log<E>(
    store: LogStore,
    mut inbound: impl Stream<Item = Result<v1::SendLogRequest, E>> + Unpin,
    answers: mpsc::Sender<v1::SendLogResponse>,
) -> Result<(), ApiError> {
    let Some(Ok(v1::SendLogRequest { item: Some(Item::Open(open)) })) = inbound.next().await else {
        return Err(invalid("log", "must begin with open"));
    };
    let (job, lease) = (job_id(&open.job_id)?, Lease(open.lease));
    let LogStore { raft, files, replication } = store;
    let output_limit = check_lease(&raft, job, lease)?;
    let limit = output_limit.saturating_mul(OVERHEAD).saturating_add(NOTES);
    let name = FileName::Log { job, lease };
    let mut appender = files.append(name, limit).await?;
    let mut kept = replication.kept(name, &appender);
    answers.send(response(kept.length()?, false)).await.map_err(gone)?;
    loop {
        tokio::select! {
            biased;
            // The next leader takes the output.
            () = replication.deposed() => return Err(from_propose(ProposeError::NotLeader)),
            // No more can grow than comes in, so both go on.
            length = kept.grown() => {
                answers.send(response(length?, false)).await.map_err(gone)?;
            }
            request = inbound.next() => {
                let item = match request {
                    Some(Ok(v1::SendLogRequest { item: Some(item) })) => item,
                    Some(Ok(v1::SendLogRequest { item: None })) => continue,
                    // The runner opens it again when it has more.
                    Some(Err(_)) | None => return Ok(()),
                };
                check_lease(&raft, job, lease)?;
                match item {
                    Item::Open(_) => return Err(invalid("log", "must be opened once")),
                    Item::Chunk(chunk) => {
                        appender.write(chunk.offset, chunk.data).await?;
                    }
                    Item::Seal(seal) => {
                        let digest: Digest =
                            seal.blake3.parse().map_err(|error| invalid("blake3", error))?;
                        appender.seal(seal.length, digest).await?;
                        tokio::select! {
                            biased;
                            () = replication.deposed() => {
                                return Err(from_propose(ProposeError::NotLeader));
                            }
                            () = replication.sealed(name, digest) => {}
                        }
                        return answers.send(response(seal.length, true)).await.map_err(gone);
                    }
                }
            }
        }
    }
}

/// The job's output limit, if the lease is its current one.
pub(super) fn check_lease(raft: &RaftHandle, id: JobId, lease: Lease) -> Result<u64, ApiError> {
    let state = raft.state();
    match state.job(id) {
        Some(job) if job.lease() == Some(lease) => Ok(job.spec.output_limit),
        _ => Err(ApiError::new(
            Reason::StaleLease,
            format!("lease {lease} is not the current one of job {id}"),
            "stop the attempt and forget it",
        )),
    }
}

fn response(durable: u64, sealed: bool) -> v1::SendLogResponse {
    v1::SendLogResponse { durable, sealed }
}
