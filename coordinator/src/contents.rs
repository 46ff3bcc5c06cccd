//! Archives, trees and the chunks of trees: what of them is stored here and on a majority,
//! and kept for a job that is about to come or to end.

use std::{collections::BTreeSet, sync::Arc};

use baton_proto::error::{ApiError, Reason};
use baton_state::{Archive, Tree};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

use crate::{
    convert::invalid,
    errors::internal,
    files::{Digest, Files},
    replication::Replication,
    trees::{Chunk, Content, Trees},
    uploads::Uploads,
};

/// Files that are looked for at once.
const AT_ONCE: usize = 16;

/// All of them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Contents {
    pub(crate) files: Files,
    pub(crate) replication: Replication,
    pub(crate) uploads: Uploads,
    pub(crate) trees: Trees,
}

impl Contents {
    /// Whether an archive is on a majority of the coordinators. It is kept for a job that is
    /// about to come.
    ///
    /// # Errors
    /// [`Reason::SourceNotUploaded`] when it is not.
    pub(crate) async fn check_archive(&self, archive: &Archive) -> Result<(), ApiError> {
        let digest: Digest = archive.digest.parse().map_err(internal)?;
        self.uploads.keep([digest]).await;
        if self.replication.keep_source(digest, archive.size).await? {
            return Ok(());
        }
        Err(ApiError::new(
            Reason::SourceNotUploaded,
            format!("no archive {digest} of {} bytes is stored", archive.size),
            "send it with Jobs.Upload first",
        ))
    }

    /// The like for a tree: its manifest and all that this names.
    ///
    /// # Errors
    /// [`Reason::SourceNotUploaded`] when something is lacking.
    pub(crate) async fn check_tree(&self, tree: &Tree) -> Result<(), ApiError> {
        let digest: Digest = tree.digest.parse().map_err(|error| invalid("digest", error))?;
        self.uploads.keep([digest]).await;
        if !self.replication.keep_source(digest, tree.size).await? {
            return Err(incomplete(&format!("no manifest {digest} of {} bytes", tree.size)));
        }
        let content = self
            .content(digest)
            .await?
            .ok_or_else(|| incomplete(&format!("no manifest {digest}")))?;
        if content.length != tree.content {
            let has = content.length;
            return Err(invalid(
                "spec.source.tree.content",
                format!("the chunks have {has} bytes"),
            ));
        }
        // First of all, so that whoever removes one sees that it is wanted.
        self.uploads.keep(content.digests()).await;
        let lacking = stream::iter(content.chunks.clone())
            .map(async |chunk| {
                let is_kept = self.replication.keep_source(chunk.digest, chunk.length).await?;
                Ok::<_, ApiError>((!is_kept).then_some(chunk.digest))
            })
            .buffer_unordered(AT_ONCE)
            .try_filter_map(async |lacking| Ok(lacking));
        match std::pin::pin!(lacking).try_next().await? {
            Some(chunk) => Err(incomplete(&format!("no chunk {chunk} of the tree {digest}"))),
            None => Ok(()),
        }
    }

    /// What of these contents, and of these trees and their chunks, is not here. What is,
    /// stays for a job that is about to come. What is damaged, as far as a length shows it, is
    /// not.
    pub(crate) async fn find_missing(
        &self,
        digests: Vec<Digest>,
        trees: Vec<Digest>,
    ) -> Result<BTreeSet<Digest>, ApiError> {
        let mut asked: BTreeSet<Digest> = digests.into_iter().collect();
        for manifest in &trees {
            self.replication.discard_damaged(*manifest).await?;
        }
        let mut missing = self.lacking(trees.iter().copied().collect()).await?;
        for tree in trees {
            if !missing.contains(&tree) {
                match self.content(tree).await? {
                    Some(content) => {
                        self.discard_damaged_chunks(&content).await?;
                        asked.extend(content.digests());
                    }
                    None => drop(missing.insert(tree)),
                }
            }
        }
        missing.append(&mut self.lacking(asked).await?);
        Ok(missing)
    }

    async fn discard_damaged_chunks(&self, content: &Content) -> Result<(), ApiError> {
        let chunks = stream::iter(content.chunks.clone()).map(Ok::<_, ApiError>);
        let discard = async |chunk: Chunk| {
            Ok::<_, ApiError>(self.replication.discard_unless(chunk.digest, chunk.length).await?)
        };
        chunks.try_for_each_concurrent(AT_ONCE, discard).await
    }

    async fn lacking(&self, digests: BTreeSet<Digest>) -> Result<BTreeSet<Digest>, ApiError> {
        self.uploads.keep(digests.iter().copied()).await;
        stream::iter(digests)
            .map(async |digest| {
                let is_here = self.replication.renew_if_here(digest).await?;
                Ok((!is_here).then_some(digest))
            })
            .buffer_unordered(AT_ONCE)
            .try_filter_map(async |lacking| Ok(lacking))
            .try_collect()
            .await
    }

    /// The content of a tree whose manifest is stored here. A damaged manifest is fetched
    /// anew from another coordinator.
    pub(crate) async fn content(&self, manifest: Digest) -> Result<Option<Arc<Content>>, ApiError> {
        match self.trees.content(&self.files, manifest).await {
            Ok(content) => Ok(content),
            Err(error) => Err(self.replication.repaired_content(manifest, error.into()).await),
        }
    }
}

fn incomplete(what: &str) -> ApiError {
    ApiError::new(
        Reason::SourceNotUploaded,
        format!("{what} is stored"),
        "ask with Jobs.FindMissing what is lacking, and send it with Jobs.Upload",
    )
}
