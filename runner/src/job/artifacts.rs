//! Artifacts: a tree of what was chosen of the work folder, sent to the coordinators under
//! the job's lease.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    io,
    os::{
        fd::OwnedFd,
        unix::{ffi::OsStrExt as _, fs::PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use baton_client::{
    ClientError, Keeper, Patience, UploadAnswers,
    source::layout,
    tree::{self, FolderTree, Found, FoundKind, Stamp, TreeContent as _, TreeLimits},
};
use baton_proto::{
    error::Reason,
    v1::{
        self, FindMissingRequest, FindMissingResponse, SendContentOpen, UploadRequest,
        send_content_request::Item, upload_request::Item as Uploaded,
    },
};
use futures::{FutureExt as _, future::BoxFuture, stream::StreamExt as _};
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tracing::debug;

use crate::{
    Link,
    collect::{self, Choice, Chosen, Limits, PickedKind},
};

/// How long coordinators that can be reached may refuse to take anything, such as for want
/// of room. One that cannot be reached is waited for as long as the lease is good.
const PATIENCE: Patience = Patience(Duration::from_secs(600));
/// The wait before it is tried whether there is room again.
const ROOM_AFTER: Duration = Duration::from_secs(5);
/// Files that are named when they are left out.
const NAMED: usize = 5;

/// What was chosen.
pub(super) struct Built {
    /// None when there is nothing.
    pub(super) tree: Option<FolderTree>,
    /// What is to be said about it.
    pub(super) notes: Vec<String>,
}

/// Makes a tree of what is chosen of the folder `top`.
pub(super) fn build(
    top: OwnedFd,
    chosen: &Chosen,
    stopped: &(dyn Fn() -> bool + Sync),
) -> io::Result<Built> {
    let choice = Choice::of_globs(&chosen.names).map_err(io::Error::other)?;
    let limits = Limits { bytes: chosen.bytes, files: chosen.files };
    let picked = collect::pick(&top, &choice, limits, stopped).map_err(io::Error::other)?;
    let mut notes: Vec<_> =
        choice.unmet().iter().map(|glob| format!("artifacts: nothing matches {glob}")).collect();
    let (mut found, mut left_out, mut special) = (Vec::new(), Vec::new(), Vec::new());
    let mut made = BTreeSet::new();
    for picked in picked {
        let names = layout::names(&picked.path).map_err(io::Error::other)?;
        let kind = match picked.kind {
            PickedKind::Folder => FoundKind::Folder,
            PickedKind::File(metadata) => FoundKind::File {
                executable: metadata.permissions().mode() & 0o111 != 0,
                stamp: Stamp::of(&metadata),
            },
            PickedKind::Special => {
                special.push(shown(&picked.path));
                continue;
            }
            PickedKind::Link(target) => {
                // By its text, and by what is there.
                let leads_out = layout::check_link(names.len() - 1, &target).is_err()
                    || layout::winds(&target) && tree::strays(&top, &picked.path).is_some();
                if leads_out {
                    left_out.push(shown(&picked.path));
                    continue;
                }
                FoundKind::Link { target: path(&target) }
            }
        };
        // A tree has each folder before what is in it.
        for depth in 1..names.len() {
            let folder = names[..depth].join(&b'/');
            if made.insert(folder.clone()) {
                found.push(Found { path: path(&folder), kind: FoundKind::Folder });
            }
        }
        if !matches!(kind, FoundKind::Folder) || made.insert(picked.path.clone()) {
            found.push(Found { path: path(&picked.path), kind });
        }
    }
    let kinds = [
        (left_out, ["1 link that leads out", "links that lead out"]),
        (special, ["1 pipe, socket or device", "pipes, sockets and devices"]),
    ];
    for (paths, [one, many]) in kinds {
        let named = paths.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", ");
        match paths.len() {
            0 => {}
            1 => notes.push(format!("artifacts: {one} is left out: {named}")),
            count => notes.push(format!("artifacts: {count} {many} are left out: {named}")),
        }
    }
    if found.is_empty() {
        return Ok(Built { tree: None, notes });
    }
    let limits = TreeLimits { content: chosen.bytes, ..TreeLimits::default() };
    let open = move |path: &Path| collect::open_file(&top, path);
    let built = tree::build_from(found, Arc::new(open), &limits, &|_| {}, stopped);
    Ok(Built { tree: Some(built.map_err(io::Error::other)?), notes })
}

fn shown(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}

fn path(bytes: &[u8]) -> PathBuf {
    OsStr::from_bytes(bytes).into()
}

/// The coordinators, as keepers of what a job left of which this runner holds the lease.
pub(super) struct LeasedKeeper {
    pub(super) link: watch::Receiver<Option<Arc<dyn Link>>>,
    pub(super) job_id: String,
    pub(super) lease: u64,
}

impl LeasedKeeper {
    /// Sends what of the tree is lacking; what is stored then.
    pub(super) async fn send(&self, tree: FolderTree) -> Result<v1::ArtifactTree, String> {
        let stored = v1::ArtifactTree {
            digest: tree.digest().to_hex().to_string(),
            size: tree.manifest().len() as u64,
            files: tree.tree().files(),
            content: tree.tree().content(),
        };
        let tree = Arc::new(tree);
        let begun = Instant::now();
        let sent = loop {
            match tree::send(self, &tree, PATIENCE, |_| {}).await {
                // What the job came to is not given up because a disk is full for a moment.
                Err(ClientError::Refused(error))
                    if error.reason == Reason::DiskFull && begun.elapsed() < PATIENCE.0 =>
                {
                    sleep(ROOM_AFTER).await;
                }
                sent => break sent,
            }
        };
        let sent = sent.map_err(|error| error.to_string())?;
        debug!(job = self.job_id, ?sent, "artifacts stored");
        Ok(stored)
    }

    async fn link(&self) -> Result<Arc<dyn Link>, ClientError> {
        let mut link = self.link.clone();
        let linked = link.wait_for(Option::is_some).await.ok().and_then(|link| link.clone());
        linked.ok_or_else(|| ClientError::Unreachable("the runner is stopping".to_owned()))
    }
}

impl Keeper for LeasedKeeper {
    fn find_missing(
        &self,
        request: FindMissingRequest,
    ) -> BoxFuture<'_, Result<FindMissingResponse, ClientError>> {
        let (job_id, lease) = (self.job_id.clone(), self.lease);
        let request = v1::FindMissingContentRequest { job_id, lease, request: Some(request) };
        async move { self.link().await?.find_missing(request).await }.boxed()
    }

    fn upload(
        &self,
        requests: ReceiverStream<UploadRequest>,
        shrinks: bool,
    ) -> BoxFuture<'_, Result<UploadAnswers, ClientError>> {
        let (job_id, lease) = (self.job_id.clone(), self.lease);
        let requests = requests.map(move |request| v1::SendContentRequest {
            item: request.item.map(|item| match item {
                Uploaded::Open(content) => Item::Open(SendContentOpen {
                    job_id: job_id.clone(),
                    lease,
                    content: Some(content),
                }),
                Uploaded::Chunk(chunk) => Item::Chunk(chunk),
            }),
        });
        async move { self.link().await?.send_content(requests.boxed(), shrinks).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink};

    use super::*;

    #[test]
    fn links_that_lead_out_by_way_of_others_and_pipes_are_left_out_and_told() {
        let work = tempfile::tempdir().unwrap();
        fs::create_dir_all(work.path().join("d/e")).unwrap();
        fs::write(work.path().join("d/file"), "kept").unwrap();
        for (target, link) in [
            ("..", "d/e/up"),
            ("up/../..", "d/e/out"),
            ("up/file", "d/e/inside"),
            ("missing/../x", "d/nowhere"),
        ] {
            symlink(target, work.path().join(link)).unwrap();
        }
        for pipe in ["d/one", "d/other"] {
            nix::unistd::mkfifo(&work.path().join(pipe), nix::sys::stat::Mode::S_IRWXU).unwrap();
        }
        let chosen = Chosen { names: vec!["d".to_owned()], bytes: 100, files: 100 };
        let top = collect::open_folder(work.path()).unwrap();
        let built = build(top, &chosen, &|| false).unwrap();
        let tree = built.tree.unwrap();
        let entries = tree.tree().entries().iter();
        let paths: Vec<_> = entries.map(|entry| String::from_utf8_lossy(&entry.path)).collect();
        assert_eq!(paths, ["d", "d/e", "d/e/inside", "d/e/up", "d/file", "d/nowhere"]);
        let notes = [
            "artifacts: 1 link that leads out is left out: d/e/out",
            "artifacts: 2 pipes, sockets and devices are left out: d/one, d/other",
        ];
        assert_eq!(built.notes, notes);
    }
}
