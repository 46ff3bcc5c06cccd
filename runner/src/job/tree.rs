//! Brings a tree: its manifest, the chunks that this runner does not have yet, and then
//! its folder of both.

use std::{
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use baton_client::{
    ClientError,
    tree::{Chunk, MANIFEST_MAX, MaterializeError, Tree, TreeFault, TreeLimits, materialize},
};
use baton_proto::{error::Reason, v1};
use blake3::Hash;
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use tokio::sync::watch;
use tracing::warn;

use super::{
    blocking,
    prepare::{PrepareError, RETRY_AFTER, SetOnDrop, linked},
};
use crate::{Blocking, Link, content::ContentStore, environment, untrusted};

/// Chunks that are fetched at once.
const AT_ONCE: usize = 8;

/// What it takes to bring a tree.
pub(super) struct Bringing<'a> {
    pub(super) threads: &'a dyn Blocking,
    pub(super) link: watch::Receiver<Option<Arc<dyn Link>>>,
    pub(super) assign: &'a v1::Assign,
    /// Which of the job's inputs it is, from 1 on; its source when 0.
    pub(super) input: u32,
    pub(super) contents: &'a ContentStore,
    /// An empty folder.
    pub(super) work: PathBuf,
    /// The most bytes that its files may have.
    pub(super) limit: u64,
}

impl Bringing<'_> {
    /// Brings the tree; stops soon after it is dropped.
    pub(super) async fn bring(&self, source: &v1::TreeSource) -> Result<(), PrepareError> {
        let digest = Hash::from_hex(&source.digest).map_err(io::Error::other)?;
        if source.size > MANIFEST_MAX {
            let what = format!("it has {} bytes, {MANIFEST_MAX} is the limit", source.size);
            return Err(TreeFault::Unreadable(what).into());
        }
        let manifest = self.fetch(None, digest, source.size).await?;
        let limits = TreeLimits { content: self.limit, ..TreeLimits::default() };
        let read = move || Tree::decode(&manifest, &limits);
        let tree = environment::blocking(self.threads, read).await.map_err(io::Error::other)??;
        let tree = Arc::new(tree);
        let hold = self.contents.hold(tree.chunks().iter().map(|chunk| chunk.digest));
        let mut fetched_anew = HashSet::new();
        let made = loop {
            self.fetch_lacking(&tree).await?;
            match self.materialize(&tree).await {
                Err(MaterializeError::Chunk { digest, what }) if fetched_anew.insert(digest) => {
                    warn!(chunk = %digest.to_hex(), what, "fetching a stored chunk anew");
                    let (contents, work) = (self.contents.clone(), self.work.clone());
                    blocking(self.threads, move || {
                        contents.remove(digest)?;
                        empty(&work)
                    })
                    .await?;
                }
                made => break made,
            }
        };
        drop(hold);
        let contents = self.contents.clone();
        blocking(self.threads, move || {
            contents.trim();
            Ok(())
        })
        .await?;
        Ok(made?)
    }

    async fn fetch_lacking(&self, tree: &Tree) -> Result<(), PrepareError> {
        let mut lacking: Vec<Chunk> = tree
            .chunks()
            .iter()
            .filter(|chunk| !self.contents.has(chunk.digest))
            .copied()
            .collect();
        lacking.sort_by_key(|chunk| *chunk.digest.as_bytes());
        lacking.dedup();
        stream::iter(lacking)
            .map(|chunk| async move {
                let bytes =
                    self.fetch(Some(chunk.digest), chunk.digest, chunk.length.into()).await?;
                let contents = self.contents.clone();
                blocking(self.threads, move || contents.put(chunk.digest, &bytes)).await?;
                Ok::<_, PrepareError>(())
            })
            .buffer_unordered(AT_ONCE)
            .try_collect()
            .await
    }

    async fn materialize(&self, tree: &Arc<Tree>) -> Result<(), MaterializeError> {
        let given_up = Arc::new(AtomicBool::new(false));
        let _guard = SetOnDrop(Arc::clone(&given_up));
        let (tree, work) = (Arc::clone(tree), self.work.clone());
        let contents = self.contents.clone();
        let making = move || {
            let mut open = |chunk: &Chunk| contents.read(chunk.digest);
            materialize(&tree, &work, &mut open, &|| given_up.load(Ordering::Relaxed))
        };
        let made = environment::blocking(self.threads, making).await;
        made.map_err(|error| MaterializeError::Read(io::Error::other(error)))?.map(drop)
    }

    /// Fetches the manifest or a chunk whole, over broken connections.
    async fn fetch(
        &self,
        chunk: Option<Hash>,
        digest: Hash,
        size: u64,
    ) -> Result<Vec<u8>, PrepareError> {
        let mut link = self.link.clone();
        let mut bytes = Vec::new();
        while (bytes.len() as u64) < size {
            let connection = linked(&mut link).await?;
            let before = bytes.len();
            match self.transfer(&*connection, chunk, &mut bytes, size).await {
                // All of it, or the way to another coordinator.
                Ok(()) if bytes.len() > before => {}
                Ok(()) => return Err(PrepareError::Short { length: before as u64, size }),
                Err(PrepareError::Fetch(error)) if error.is_temporary() => {
                    if matches!(&error, ClientError::Refused(it) if it.reason == Reason::ContentDamaged)
                    {
                        // What came of it may be the damage.
                        bytes.clear();
                    }
                    let job = &self.assign.job_id;
                    warn!(job, %error, "fetching the source broke off; going on soon");
                    tokio::time::sleep(RETRY_AFTER).await;
                }
                Err(error) => return Err(error),
            }
        }
        if blake3::hash(&bytes) == digest { Ok(bytes) } else { Err(PrepareError::Damaged) }
    }

    async fn transfer(
        &self,
        link: &dyn Link,
        chunk: Option<Hash>,
        bytes: &mut Vec<u8>,
        size: u64,
    ) -> Result<(), PrepareError> {
        let request = v1::FetchSourceRequest {
            job_id: self.assign.job_id.clone(),
            lease: self.assign.lease,
            offset: bytes.len() as u64,
            chunk: chunk.map(|digest| digest.to_hex().to_string()).unwrap_or_default(),
            input: self.input,
        };
        let mut pieces = link.fetch_source(request).await.map_err(PrepareError::Fetch)?;
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(PrepareError::Fetch)?;
            let end = piece.offset + piece.data.len() as u64;
            if piece.offset != bytes.len() as u64 || end > size {
                return Err(PrepareError::Damaged);
            }
            bytes.extend_from_slice(&piece.data);
        }
        Ok(())
    }
}

/// Removes everything in a folder.
fn empty(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        untrusted::remove(&entry?.path())?;
    }
    Ok(())
}
