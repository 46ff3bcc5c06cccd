//! What of a tree is sent.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use baton_proto::v1::{
    FindMissingRequest, FindMissingResponse, UploadRequest, UploadResponse, upload_request::Item,
};
use futures::{FutureExt as _, future::BoxFuture, stream::StreamExt as _};
use tokio_stream::wrappers::ReceiverStream;

use super::super::*;
use super::folder::{Folder, noise};
use crate::{ClientError, Keeper, Patience, UploadAnswers};

/// Keeps what it is brought, and breaks a connection now and then.
#[derive(Default)]
struct Memory {
    contents: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    /// Uploads that break before they end.
    to_break: Mutex<u32>,
}

impl Memory {
    fn has(&self, digest: &str) -> bool {
        self.contents.lock().unwrap().contains_key(digest)
    }
}

impl Keeper for Memory {
    fn find_missing(
        &self,
        request: FindMissingRequest,
    ) -> BoxFuture<'_, Result<FindMissingResponse, ClientError>> {
        let mut asked = request.digests;
        for digest in request.trees {
            if let Some(manifest) = self.contents.lock().unwrap().get(&digest) {
                let tree = Tree::decode(manifest, &TreeLimits::default()).unwrap();
                asked.extend(tree.chunks().iter().map(|chunk| chunk.digest.to_hex().to_string()));
            } else {
                asked.push(digest);
            }
        }
        let missing = asked.into_iter().filter(|digest| !self.has(digest)).collect();
        async { Ok(FindMissingResponse { missing }) }.boxed()
    }

    fn upload(
        &self,
        mut requests: ReceiverStream<UploadRequest>,
        _: bool,
    ) -> BoxFuture<'_, Result<UploadAnswers, ClientError>> {
        let breaks = {
            let mut left = self.to_break.lock().unwrap();
            let breaks = *left > 0;
            *left = left.saturating_sub(1);
            breaks
        };
        let contents = Arc::clone(&self.contents);
        let answers = futures::stream::once(async move {
            let Some(Item::Open(open)) = requests.next().await.unwrap().item else { panic!() };
            let mut content = Vec::new();
            let first = Ok(UploadResponse { durable: 0, complete: false });
            if breaks {
                let broken = Err(ClientError::Unreachable("broken".to_owned()));
                return futures::stream::iter([first, broken]).boxed();
            }
            let rest = async move {
                while (content.len() as u64) < open.size {
                    match requests.next().await.unwrap().item {
                        Some(Item::Chunk(chunk)) => content.extend_from_slice(&chunk.data),
                        other => panic!("{other:?}"),
                    }
                }
                assert_eq!(blake3::hash(&content).to_hex().as_str(), open.digest);
                contents.lock().unwrap().insert(open.digest, content);
                Ok(UploadResponse { durable: open.size, complete: true })
            };
            futures::stream::iter([first]).chain(futures::stream::once(rest)).boxed()
        });
        async { Ok(answers.flatten().boxed()) }.boxed()
    }
}

async fn sent(memory: &Memory, folder: &Folder) -> (Arc<FolderTree>, Sent) {
    let content = Arc::new(folder.build().unwrap());
    let patience = Patience(Duration::from_secs(60));
    let sent = send(memory, &content, patience, |_| ()).await.unwrap();
    assert_eq!(sent.sent_bytes, sent.missing_bytes);
    assert_eq!(
        memory.contents.lock().unwrap()[content.digest().to_hex().as_str()],
        content.manifest()[..]
    );
    for chunk in content.tree().chunks() {
        assert!(memory.has(chunk.digest.to_hex().as_str()));
    }
    (content, sent)
}

#[tokio::test]
async fn only_what_is_missing_is_sent_also_when_connections_break() {
    let memory = Memory::default();
    *memory.to_break.lock().unwrap() = 3;
    let folder = Folder::new().file("a", noise(1, 6 << 20)).file("b", "b").file("c/d", "d");
    let (content, first) = sent(&memory, &folder).await;
    assert_eq!(first.missing, first.chunks);
    assert_eq!(first.missing_bytes, content.tree().content());
    let (_, second) = sent(&memory, &folder).await;
    assert_eq!((second.missing, second.chunks), (0, first.chunks));
    let (_, third) = sent(&memory, &folder.file("b", "edited")).await;
    assert_eq!(third.missing, 1);
    assert_eq!(third.missing_bytes, 7);
}

#[tokio::test]
async fn a_chunk_that_went_missing_is_sent_again_although_the_manifest_is_there() {
    let memory = Memory::default();
    let folder = Folder::new().file("a", noise(1, 3 << 20)).file("b", "b");
    let (content, _) = sent(&memory, &folder).await;
    let lost = content.tree().chunks()[0].digest.to_hex().to_string();
    memory.contents.lock().unwrap().remove(&lost);
    let (_, again) = sent(&memory, &folder).await;
    assert_eq!(again.missing, 1);
}
