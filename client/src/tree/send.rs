//! Brings a tree to whoever keeps contents: what is there already is not sent. The
//! manifest goes last, so that where it is, everything has been.

use std::{
    collections::{HashMap, HashSet},
    io,
    sync::{Arc, Mutex, PoisonError},
};

use baton_proto::v1::{FindMissingRequest, FindMissingResponse};
use blake3::Hash;
use bytes::Bytes;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use super::{Chunk, Tree};
use crate::{
    ClientError, Keeper, Patience, UploadProgress, retry,
    upload::{Whole, upload},
};

/// Digests that are asked for at once.
const ASKED: usize = 10_000;
/// Contents that are sent at once.
const AT_ONCE: usize = 8;

/// A tree with its content.
pub trait TreeContent: Send + Sync + 'static {
    /// What it is of.
    fn tree(&self) -> &Tree;

    /// BLAKE3 of the manifest.
    fn digest(&self) -> Hash;

    /// The tree, encoded.
    fn manifest(&self) -> &Bytes;

    /// The bytes of a chunk, which are what its digest says. Blocks.
    ///
    /// # Errors
    /// They cannot be read, or are others by now; the text says what to do.
    fn chunk(&self, chunk: &Chunk) -> io::Result<Bytes>;
}

/// What sending tells while it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SendProgress {
    /// It is known what has to be sent, or some of it is on the receiver's disk.
    Sent(Sent),
    /// The connection broke; it is being made again.
    Reconnecting {
        /// What broke it, for people.
        cause: String,
    },
}

/// What was sent of a tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// Different chunks of the tree, and their bytes.
    pub chunks: u64,
    /// Bytes of these.
    pub bytes: u64,
    /// Chunks that were not there.
    pub missing: u64,
    /// Bytes of these.
    pub missing_bytes: u64,
    /// Bytes of these that are there now.
    pub sent_bytes: u64,
}

/// Sends what is missing of a tree, over broken connections for `patience` from the last
/// acknowledgement. Returns when all of it is on disk and checked.
///
/// # Errors
/// As [`upload`]; [`ClientError::Local`] also when a file has changed since the tree was
/// made.
pub async fn send(
    keeper: &dyn Keeper,
    content: &Arc<impl TreeContent>,
    patience: Patience,
    progress: impl FnMut(SendProgress) + Send,
) -> Result<Sent, ClientError> {
    let digest = content.digest().to_hex().to_string();
    let of_tree = FindMissingRequest {
        content: content.tree().content(),
        digests: Vec::new(),
        trees: vec![digest.clone()],
    };
    let answer = find_missing(keeper, patience, of_tree).await?;
    let has_manifest = !answer.missing.contains(&digest);
    let all: HashMap<String, Chunk> = content
        .tree()
        .chunks()
        .iter()
        .map(|chunk| (chunk.digest.to_hex().to_string(), *chunk))
        .collect();
    let missing: HashSet<String> = if has_manifest {
        answer.missing.into_iter().collect()
    } else {
        let mut missing = HashSet::new();
        let digests: Vec<&String> = all.keys().collect();
        for some in digests.chunks(ASKED) {
            let digests = some.iter().map(|digest| (*digest).clone()).collect();
            let request = FindMissingRequest { digests, ..FindMissingRequest::default() };
            missing.extend(find_missing(keeper, patience, request).await?.missing);
        }
        missing
    };
    let to_send: Vec<Chunk> =
        missing.iter().filter_map(|digest| all.get(digest)).copied().collect();
    let bytes_of = |chunks: &mut dyn Iterator<Item = &Chunk>| {
        chunks.map(|chunk| u64::from(chunk.length)).sum::<u64>()
    };
    let telling = Telling::new(
        progress,
        Sent {
            chunks: all.len() as u64,
            bytes: bytes_of(&mut all.values()),
            missing: to_send.len() as u64,
            missing_bytes: bytes_of(&mut to_send.iter()),
            sent_bytes: 0,
        },
    );
    let sending = to_send.into_iter().map(|chunk| {
        let (content, telling) = (Arc::clone(content), &telling);
        async move {
            let reading = tokio::task::spawn_blocking(move || content.chunk(&chunk));
            let bytes = reading.await.map_err(io::Error::other).flatten();
            let bytes = bytes.map_err(|cause| ClientError::Local {
                what: "cannot read the source again",
                cause,
            })?;
            let whole = Whole::new(chunk.digest, bytes);
            upload(keeper, &whole, patience, |progress| telling.hears(progress)).await?;
            telling.is_there(chunk);
            Ok::<_, ClientError>(())
        }
    });
    stream::iter(sending).buffer_unordered(AT_ONCE).try_collect::<()>().await?;
    if !has_manifest {
        let whole = Whole::new(content.digest(), content.manifest().clone());
        upload(keeper, &whole, patience, |progress| telling.hears(progress)).await?;
    }
    Ok(telling.end())
}

async fn find_missing(
    keeper: &dyn Keeper,
    patience: Patience,
    request: FindMissingRequest,
) -> Result<FindMissingResponse, ClientError> {
    retry(patience, |_| (), || keeper.find_missing(request.clone())).await
}

/// Tells what several uploads come to together.
struct Telling<F>(Mutex<Told<F>>);

struct Told<F> {
    progress: F,
    sent: Sent,
    /// Somebody has told of an outage that is not known to be over.
    is_out: bool,
}

impl<F: FnMut(SendProgress)> Telling<F> {
    fn new(mut progress: F, sent: Sent) -> Self {
        progress(SendProgress::Sent(sent));
        Self(Mutex::new(Told { progress, sent, is_out: false }))
    }

    fn hears(&self, heard: UploadProgress) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match heard {
            UploadProgress::Durable(_) => told.is_out = false,
            UploadProgress::Reconnecting { cause } => {
                if !std::mem::replace(&mut told.is_out, true) {
                    (told.progress)(SendProgress::Reconnecting { cause });
                }
            }
        }
    }

    fn is_there(&self, chunk: Chunk) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.sent.sent_bytes += u64::from(chunk.length);
        let sent = told.sent;
        (told.progress)(SendProgress::Sent(sent));
    }

    fn end(self) -> Sent {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner).sent
    }
}
