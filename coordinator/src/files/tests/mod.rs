//! What the store promises, tested through its public face; a few tests put a
//! broken device under a file to see a fault that no real disk gives on demand.

mod append;
mod copies;
mod crashes;
mod faults;
mod log;
mod place;
mod search;
mod stored;

use std::{future::Future, num::NonZeroUsize, path::Path, time::Duration};

use baton_proto::{
    spool::{self, Kind},
    v1::LogEnd,
};
use baton_state::{JobId, Lease, Timestamp};
use bytes::Bytes;

use super::*;

/// Small pieces of everything, so that little data crosses every edge.
fn small() -> FilesOptions {
    FilesOptions {
        sync_interval: Duration::from_millis(1),
        sync_threads: 2,
        index_spacing: 60,
        read_size: NonZeroUsize::new(47).unwrap(),
        ..FilesOptions::default()
    }
}

fn open(root: &Path) -> Files {
    Files::open(root.join("files"), small()).unwrap()
}

fn log_name(number: u64) -> FileName {
    FileName::Log { job: JobId::new(Timestamp(number), number.into()), lease: Lease(number) }
}

fn upload_name(content: &[u8]) -> FileName {
    FileName::Upload { digest: blake3::hash(content).into() }
}

fn digest(content: &[u8]) -> Digest {
    blake3::hash(content).into()
}

/// The bytes of a log with these frames, without an end.
fn frames(frames: &[(Kind, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, (kind, payload)) in (1..).zip(frames) {
        spool::push_frame(&mut out, *kind, number, payload);
    }
    out
}

/// The end that belongs to these frames.
fn end_of(frames: &[(Kind, &[u8])]) -> LogEnd {
    let length = |of| {
        let stream = frames.iter().filter(|(kind, _)| *kind == of);
        stream.map(|(_, payload)| payload.len() as u64).sum()
    };
    LogEnd {
        stdout_length: length(Kind::Stdout),
        stderr_length: length(Kind::Stderr),
        ..LogEnd::default()
    }
}

/// The bytes of a complete log.
fn complete(content: &[(Kind, &[u8])]) -> Vec<u8> {
    let mut out = frames(content);
    spool::push_end(&mut out, 99, &end_of(content));
    out
}

async fn store(files: &Files, name: FileName, content: &[u8]) {
    let mut appender = files.append(name, u64::MAX).await.unwrap();
    appender.write(0, Bytes::copy_from_slice(content)).await.unwrap();
    appender.seal(content.len() as u64, digest(content)).await.unwrap();
}

/// Waits until at least `offset` bytes are on disk.
async fn reached(mut durable: Durable, offset: u64) -> Result<u64> {
    let mut length = durable.length()?;
    while length < offset {
        length = durable.changed().await?;
    }
    Ok(length)
}

/// The event must come; the limit only ends a test that has failed.
async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), event).await.expect("it should have happened")
}

fn on_disk(files: &Files, name: FileName) -> Vec<u8> {
    let root = &files.inner.root;
    std::fs::read(name.sealed_path(root)).or_else(|_| std::fs::read(name.part_path(root))).unwrap()
}
