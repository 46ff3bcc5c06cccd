//! Brings a packed source archive to the coordinator. The archive is named by
//! its content, so a repeated or interrupted upload goes on where it stopped.

use baton_proto::v1::{FileChunk, UploadOpen, UploadRequest, UploadResponse, upload_request::Item};
use bytes::Bytes;
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::{ClientError, Connection, Patience, retry::Outage, source::PackedSource};

/// Bytes that may be on their way before an acknowledgement is waited for.
const WINDOW: u64 = 8 * 1024 * 1024;
/// Chunks between here and the transport.
const QUEUED_CHUNKS: usize = 2;

/// An archive as an upload sees it.
pub trait Archive {
    /// BLAKE3 of the whole, 64 hexadecimal digits.
    fn digest(&self) -> &str;
    /// Length of the whole in bytes.
    fn size(&self) -> u64;
    /// The bytes from `offset` on, at most [`baton_proto::MAX_CHUNK`] of them;
    /// none only at the end.
    ///
    /// # Errors
    /// What reading the archive gave.
    fn chunk(&self, offset: u64) -> std::io::Result<Bytes>;
}

impl Archive for PackedSource {
    fn digest(&self) -> &str {
        &self.digest
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn chunk(&self, offset: u64) -> std::io::Result<Bytes> {
        self.chunk(offset)
    }
}

/// What an upload tells while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UploadProgress {
    /// So many bytes are on the coordinator's disk.
    Durable(u64),
    /// The connection broke; it is being made again.
    Reconnecting {
        /// What broke it, for people.
        cause: String,
    },
}

/// Uploads `archive`, going on after broken connections for `patience` from the
/// last acknowledgement. Returns when all of it is on disk and checked.
///
/// # Errors
/// [`ClientError::Refused`] when the coordinator does not take it,
/// [`ClientError::Local`] when the archive cannot be read, or the last failure
/// when the coordinator stays away.
pub async fn upload(
    connection: &Connection,
    archive: &(impl Archive + Sync),
    patience: Patience,
    mut progress: impl FnMut(UploadProgress),
) -> Result<(), ClientError> {
    let mut outage = Outage::new(patience);
    let mut furthest = None;
    loop {
        let tried = send(connection, archive, &mut |durable| {
            // Only getting further ends an outage, or a stream that always
            // breaks after its first answer would be retried for ever.
            if furthest.is_none_or(|before| durable > before) {
                furthest = Some(durable);
                outage.over();
            }
            progress(UploadProgress::Durable(durable));
        })
        .await;
        let error = match tried {
            Ok(()) => return Ok(()),
            Err(error) => error,
        };
        if error.is_temporary() && !outage.is_running() {
            progress(UploadProgress::Reconnecting { cause: error.to_string() });
        }
        outage.wait(error).await?;
    }
}

/// One try over one stream.
async fn send(
    connection: &Connection,
    archive: &(impl Archive + Sync),
    durable: &mut impl FnMut(u64),
) -> Result<(), ClientError> {
    let (requests, queue) = mpsc::channel(QUEUED_CHUNKS);
    let open = UploadOpen { digest: archive.digest().to_owned(), size: archive.size() };
    offer(&requests, Item::Open(open)).await;
    let mut answers = connection.jobs().upload(ReceiverStream::new(queue)).await?.into_inner();

    let first = answer(&mut answers).await?;
    durable(first.durable);
    if first.complete {
        return Ok(());
    }
    let mut acknowledged = first.durable;
    let mut sent = acknowledged;
    loop {
        let may_send = sent < archive.size() && sent - acknowledged.min(sent) < WINDOW;
        tokio::select! {
            // Answers first: a refusal must not wait for room in the queue.
            biased;
            received = answer(&mut answers) => {
                let received = received?;
                acknowledged = received.durable;
                durable(acknowledged);
                if received.complete {
                    return Ok(());
                }
            }
            permit = requests.reserve(), if may_send => {
                // A closed queue means a broken stream; the answers say why.
                let Ok(permit) = permit else {
                    return answer(&mut answers).await.and(Err(broken()));
                };
                let data = archive.chunk(sent).map_err(|cause| ClientError::Local {
                    what: "cannot read the packed source",
                    cause,
                })?;
                let offset = sent;
                sent += data.len() as u64;
                let chunk = FileChunk { offset, data };
                permit.send(UploadRequest { item: Some(Item::Chunk(chunk)) });
            }
        }
    }
}

async fn offer(requests: &Sender<UploadRequest>, item: Item) {
    // A closed queue shows itself as an error of the answers.
    let _closed = requests.send(UploadRequest { item: Some(item) }).await;
}

async fn answer(answers: &mut Streaming<UploadResponse>) -> Result<UploadResponse, ClientError> {
    answers.message().await?.ok_or_else(broken)
}

fn broken() -> ClientError {
    ClientError::Unreachable("the coordinator ended the stream".to_owned())
}
