//! Brings content to whoever keeps it. It is named by what it is, so a repeated or
//! interrupted upload goes on where it stopped.

use baton_proto::v1::{
    FileChunk, FindMissingRequest, FindMissingResponse, UploadOpen, UploadRequest, UploadResponse,
    upload_request::Item,
};
use blake3::Hash;
use bytes::Bytes;
use futures::{
    FutureExt as _,
    future::BoxFuture,
    stream::{BoxStream, StreamExt as _, TryStreamExt as _},
};
use tokio::sync::mpsc::{self, Sender};
use tokio_stream::wrappers::ReceiverStream;
use tonic::codec::CompressionEncoding;

use crate::{ClientError, Connection, Patience, retry::Outage, source::PackedSource};

/// Bytes that may be on their way before an acknowledgement is waited for.
const WINDOW: u64 = 8 * 1024 * 1024;
/// Chunks between here and the transport.
const QUEUED_CHUNKS: usize = 2;

/// Bytes at the beginning of a content that tell whether it shrinks.
const SAMPLE: usize = 64 * 1024;

/// Whoever keeps contents by their digests.
pub trait Keeper: Send + Sync {
    /// Asks what has to be brought.
    ///
    /// # Errors
    /// What it was refused with, or how the connection broke.
    fn find_missing(
        &self,
        request: FindMissingRequest,
    ) -> BoxFuture<'_, Result<FindMissingResponse, ClientError>>;

    /// Brings a content that may shrink when it is compressed.
    ///
    /// # Errors
    /// As [`Keeper::find_missing`].
    fn upload(
        &self,
        requests: ReceiverStream<UploadRequest>,
        shrinks: bool,
    ) -> BoxFuture<'_, Result<UploadAnswers, ClientError>>;
}

/// What is answered to an upload, until it ends or breaks.
pub type UploadAnswers = BoxStream<'static, Result<UploadResponse, ClientError>>;

impl Keeper for Connection {
    fn find_missing(
        &self,
        request: FindMissingRequest,
    ) -> BoxFuture<'_, Result<FindMissingResponse, ClientError>> {
        async move { Ok(self.jobs().find_missing(request).await?.into_inner()) }.boxed()
    }

    fn upload(
        &self,
        requests: ReceiverStream<UploadRequest>,
        shrinks: bool,
    ) -> BoxFuture<'_, Result<UploadAnswers, ClientError>> {
        let jobs = self.jobs();
        let mut jobs = if shrinks { jobs.send_compressed(CompressionEncoding::Zstd) } else { jobs };
        async move {
            let answers = jobs.upload(requests).await?.into_inner();
            Ok(answers.map_err(ClientError::from).boxed())
        }
        .boxed()
    }
}

/// A content as an upload sees it.
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

    /// Whether it is worth to compress it on its way.
    fn shrinks(&self) -> bool {
        false
    }
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

/// A content that is in memory.
pub(crate) struct Whole {
    digest: String,
    bytes: Bytes,
}

impl Whole {
    pub(crate) fn new(digest: Hash, bytes: Bytes) -> Self {
        Self { digest: digest.to_hex().to_string(), bytes }
    }
}

impl Archive for Whole {
    fn digest(&self) -> &str {
        &self.digest
    }

    fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn chunk(&self, offset: u64) -> std::io::Result<Bytes> {
        let begin = usize::try_from(offset).unwrap_or(usize::MAX).min(self.bytes.len());
        let end = (begin + baton_proto::MAX_CHUNK).min(self.bytes.len());
        Ok(self.bytes.slice(begin..end))
    }

    fn shrinks(&self) -> bool {
        let sample = &self.bytes[..self.bytes.len().min(SAMPLE)];
        zstd::bulk::compress(sample, 1).is_ok_and(|small| small.len() < sample.len() / 10 * 9)
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
    keeper: &dyn Keeper,
    archive: &(impl Archive + Sync),
    patience: Patience,
    mut progress: impl FnMut(UploadProgress),
) -> Result<(), ClientError> {
    let mut outage = Outage::new(patience);
    let mut furthest = None;
    loop {
        let tried = send(keeper, archive, &mut |durable| {
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
    keeper: &dyn Keeper,
    archive: &(impl Archive + Sync),
    durable: &mut impl FnMut(u64),
) -> Result<(), ClientError> {
    let (requests, queue) = mpsc::channel(QUEUED_CHUNKS);
    let open = UploadOpen { digest: archive.digest().to_owned(), size: archive.size() };
    offer(&requests, Item::Open(open)).await;
    let mut answers = keeper.upload(ReceiverStream::new(queue), archive.shrinks()).await?;

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
                    what: "cannot read the source",
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

async fn answer(answers: &mut UploadAnswers) -> Result<UploadResponse, ClientError> {
    answers.next().await.ok_or_else(broken)?
}

fn broken() -> ClientError {
    ClientError::Unreachable("the coordinator ended the stream".to_owned())
}
