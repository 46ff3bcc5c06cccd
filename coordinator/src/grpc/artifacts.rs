//! Jobs.Artifacts and Jobs.FetchArtifacts: what a job left.

use std::collections::HashSet;

use baton_proto::{
    error::{ApiError, Reason},
    tree,
    v1::{self, tree_entry::Kind},
};
use baton_state::{ArtifactTree, Job};
use prost::Message as _;
use tokio::sync::mpsc;

use super::{gone, jobs::no_such_attempt};
use crate::{
    convert::{invalid, tree_to_proto},
    errors::internal,
    files::{Digest, FileName},
    jobs::Jobs,
};

/// Files in one answer.
const PAGE: usize = 1_000;

/// The artifacts of an attempt of the job; of the last one that has some when it is 0.
pub(super) fn find(job: &Job, number: u32) -> Result<ArtifactTree, ApiError> {
    let tree = match number.checked_sub(1) {
        None => job.artifacts().next_back(),
        Some(index) => {
            let attempt = job.attempts.get(index as usize);
            attempt.ok_or_else(|| no_such_attempt(job, number))?.artifacts.as_ref()
        }
    };
    tree.cloned().ok_or_else(|| none(job))
}

/// The job has no artifacts.
pub(crate) fn none(job: &Job) -> ApiError {
    let (message, action) = match (&job.spec.artifacts, job.is_finished()) {
        (Some(_), false) => ("has no artifacts yet", "wait for the job's end"),
        (Some(_), true) => ("has no artifacts", "see with Jobs.Get how it ended"),
        (None, _) => ("keeps no artifacts", "say in JobSpec.artifacts which to keep"),
    };
    ApiError::new(Reason::NoArtifacts, format!("job {} {message}", job.id), action)
}

/// What may be fetched of it: the manifest, or a chunk that it names.
pub(super) async fn content(
    jobs: &Jobs,
    tree: &ArtifactTree,
    chunk: &str,
) -> Result<Digest, ApiError> {
    let manifest: Digest = tree.digest.parse().map_err(internal)?;
    if chunk.is_empty() {
        return Ok(manifest);
    }
    let chunk: Digest = chunk.parse().map_err(|error| invalid("chunk", error))?;
    jobs.replication.ensure(FileName::Upload { digest: manifest }).await?;
    match jobs.contents().content(manifest).await? {
        Some(content) if content.digests().any(|named| named == chunk) => Ok(chunk),
        _ => Err(invalid("chunk", "the artifacts have no such chunk")),
    }
}

/// Lists them.
pub(super) async fn list(
    jobs: Jobs,
    tree: ArtifactTree,
    answers: mpsc::Sender<v1::ArtifactsResponse>,
) -> Result<(), ApiError> {
    let digest: Digest = tree.digest.parse().map_err(internal)?;
    let name = FileName::Upload { digest };
    jobs.replication.ensure(name).await?;
    let mut reader = jobs.files.read(name, 0).await?;
    let mut bytes = Vec::new();
    loop {
        match reader.next().await {
            Ok(Some(some)) => bytes.extend_from_slice(&some),
            Ok(None) => break,
            Err(error) => {
                return Err(jobs.replication.repaired_content(digest, error.into()).await);
            }
        }
    }
    tree::check(&bytes).map_err(internal)?;
    let manifest = v1::Tree::decode(bytes.as_slice()).map_err(internal)?;
    let parent = |path: &[u8]| path.iter().rposition(|byte| *byte == b'/');
    let paths = manifest.entries.iter().map(|entry| &entry.path);
    let filled: HashSet<_> =
        paths.filter_map(|path| Some(path[..parent(path)?].to_vec())).collect();
    let entries = manifest.entries.into_iter().filter(|entry| !filled.contains(&entry.path[..]));
    let artifacts: Vec<_> = entries.filter_map(artifact).collect();
    let mut tree = Some(tree_to_proto(&tree));
    for page in artifacts.chunks(PAGE) {
        let answer = v1::ArtifactsResponse { artifacts: page.to_vec(), tree: tree.take() };
        answers.send(answer).await.map_err(gone)?;
    }
    if tree.is_some() {
        let answer = v1::ArtifactsResponse { artifacts: Vec::new(), tree };
        answers.send(answer).await.map_err(gone)?;
    }
    Ok(())
}

/// As people see it; of folders, only those are asked for that are empty.
fn artifact(entry: v1::TreeEntry) -> Option<v1::Artifact> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let path = text(&entry.path);
    match entry.kind? {
        Kind::Folder(_) => Some(v1::Artifact { path: path + "/", ..v1::Artifact::default() }),
        Kind::File(file) => {
            let blake3: String = file.blake3.iter().map(|byte| format!("{byte:02x}")).collect();
            Some(v1::Artifact { path, size: file.size, blake3, target: String::new() })
        }
        Kind::Link(link) => {
            let target = text(&link.target);
            Some(v1::Artifact { path, target, ..v1::Artifact::default() })
        }
    }
}
