//! Which chunks stored manifests name: all that a coordinator has to know of trees. What
//! a manifest says of files is for clients and runners.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use baton_proto::{
    error::{ApiError, Reason},
    tree::{self, CHUNK_MAX, MANIFEST_MAX, VERSION},
    v1,
};
use prost::Message;

use crate::files::{Digest, FileName, Files, FilesError};

/// Why the chunks of a tree are not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TreesError {
    #[error(transparent)]
    Files(#[from] FilesError),
    #[error("{digest} is not the manifest of a tree")]
    NoManifest { digest: Digest },
}

impl From<TreesError> for ApiError {
    fn from(error: TreesError) -> Self {
        match error {
            TreesError::Files(error) => error.into(),
            TreesError::NoManifest { .. } => Self::new(
                Reason::InvalidArgument,
                error.to_string(),
                "send a manifest as baton.v1.Tree describes it",
            ),
        }
    }
}

/// A piece of a tree's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) digest: Digest,
    /// Bytes.
    pub(crate) length: u64,
}

/// What of a tree is stored.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Content {
    /// The sum of all chunks, in bytes.
    pub(crate) length: u64,
    /// Each once.
    pub(crate) chunks: Vec<Chunk>,
}

impl Content {
    pub(crate) fn digests(&self) -> impl Iterator<Item = Digest> {
        self.chunks.iter().map(|chunk| chunk.digest)
    }
}

/// Of a [`v1::Tree`] what concerns chunks: the rest is not even decoded.
#[derive(Clone, PartialEq, Message)]
struct Chunks {
    #[prost(uint32, tag = "1")]
    version: u32,
    #[prost(message, repeated, tag = "3")]
    chunks: Vec<v1::TreeChunk>,
}

/// The chunks of the trees whose manifests were read. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trees {
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    contents: HashMap<Digest, Arc<Content>>,
    /// The manifests that name each chunk.
    naming: HashMap<Digest, Vec<Digest>>,
}

impl Trees {
    /// The content of the tree with this manifest; none when that is not stored here.
    ///
    /// # Errors
    /// [`TreesError`].
    pub(crate) async fn content(
        &self,
        files: &Files,
        manifest: Digest,
    ) -> Result<Option<Arc<Content>>, TreesError> {
        if let Some(content) = self.lock().contents.get(&manifest) {
            return Ok(Some(Arc::clone(content)));
        }
        let mut reader = match files.read(FileName::Upload { digest: manifest }, 0).await {
            Err(FilesError::NotFound(_)) => return Ok(None),
            reader => reader?,
        };
        let no_manifest = || TreesError::NoManifest { digest: manifest };
        if reader.length() > MANIFEST_MAX {
            return Err(no_manifest());
        }
        let mut bytes = Vec::new();
        while let Some(some) = reader.next().await? {
            bytes.extend_from_slice(&some);
        }
        let content = Arc::new(read(&bytes).ok_or_else(no_manifest)?);
        self.lock().add(manifest, Arc::clone(&content));
        Ok(Some(content))
    }

    /// The manifests that name this chunk, of those that were read.
    pub(crate) fn naming(&self, chunk: Digest) -> Vec<Digest> {
        self.lock().naming.get(&chunk).cloned().unwrap_or_default()
    }

    /// Forgets all trees but these, and gives those of them that were not read.
    pub(crate) fn keep_only(&self, manifests: &HashSet<Digest>) -> Vec<Digest> {
        let mut known = self.lock();
        let gone: Vec<Digest> =
            known.contents.keys().filter(|tree| !manifests.contains(tree)).copied().collect();
        for manifest in gone {
            known.remove(manifest);
        }
        manifests.iter().filter(|tree| !known.contents.contains_key(tree)).copied().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn add(&mut self, manifest: Digest, content: Arc<Content>) {
        for chunk in content.digests() {
            let naming = self.naming.entry(chunk).or_default();
            if !naming.contains(&manifest) {
                naming.push(manifest);
            }
        }
        self.contents.insert(manifest, content);
    }

    fn remove(&mut self, manifest: Digest) {
        let Some(content) = self.contents.remove(&manifest) else { return };
        for chunk in content.digests() {
            if let Some(naming) = self.naming.get_mut(&chunk) {
                naming.retain(|other| *other != manifest);
                if naming.is_empty() {
                    self.naming.remove(&chunk);
                }
            }
        }
    }
}

fn read(manifest: &[u8]) -> Option<Content> {
    tree::check(manifest).ok()?;
    let read = Chunks::decode(manifest).ok().filter(|read| read.version == VERSION)?;
    let mut seen = HashSet::new();
    let mut content = Content { length: 0, chunks: Vec::new() };
    for chunk in read.chunks {
        let digest: [u8; 32] = chunk.blake3.try_into().ok()?;
        if chunk.length == 0 || chunk.length as usize > CHUNK_MAX {
            return None;
        }
        let chunk =
            Chunk { digest: blake3::Hash::from_bytes(digest).into(), length: chunk.length.into() };
        content.length += chunk.length;
        if seen.insert(chunk.digest) {
            content.chunks.push(chunk);
        }
    }
    Some(content)
}
