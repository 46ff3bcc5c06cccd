//! What replication promises, between stores that talk over real gRPC, and over none.

mod backlog;
mod copying;
mod full_disk;
mod quorum;
mod threadless;
mod world;

use std::{future::Future, sync::atomic::Ordering, time::Duration};

use baton_proto::{
    spool::{self, Kind},
    v1::LogEnd,
};
use baton_state::{JobId, Lease, Timestamp};
use bytes::Bytes;

use self::world::{Gate, World};
use super::*;
use crate::files::Held;

fn log_name(number: u64) -> FileName {
    FileName::Log { job: JobId::new(Timestamp(number), number.into()), lease: Lease(number) }
}

fn upload_name(content: &[u8]) -> FileName {
    FileName::Upload { digest: blake3::hash(content).into() }
}

/// A log of one frame.
fn frame(payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    spool::push_frame(&mut out, Kind::Stdout, 1, payload);
    out
}

/// A complete log.
fn complete(payload: &[u8]) -> Vec<u8> {
    let mut out = frame(payload);
    let end = LogEnd { stdout_length: payload.len() as u64, ..LogEnd::default() };
    spool::push_end(&mut out, 99, &end);
    out
}

async fn write(files: &Files, name: FileName, content: &[u8]) -> Appender {
    let mut appender = files.append(name, u64::MAX).await.unwrap();
    appender.write(0, Bytes::copy_from_slice(content)).await.unwrap();
    appender
}

async fn store(files: &Files, name: FileName, content: &[u8]) {
    let mut appender = write(files, name, content).await;
    appender.seal(content.len() as u64, blake3::hash(content).into()).await.unwrap();
}

/// The event must come; the limit only ends a test that has failed.
async fn soon<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), event).await.expect("it should have happened")
}

/// Waits until what a node has of a file is as it should be.
async fn until(files: &Files, name: FileName, is_so: impl Fn(Option<Held>) -> bool) {
    let changes = files.changes();
    soon(async {
        while !is_so(files.holds(name).await.unwrap()) {
            changes.take().await;
        }
    })
    .await;
}

async fn until_sealed(files: &Files, name: FileName) {
    until(files, name, |held| held.is_some_and(|held| held.sealed.is_some())).await;
}

async fn until_length(files: &Files, name: FileName, length: usize) {
    until(files, name, |held| held.is_some_and(|held| held.length == length as u64)).await;
}

/// Waits until a writer may count on so many bytes.
async fn until_kept(kept: &mut Kept, length: usize) {
    soon(async {
        while kept.length().unwrap() < length as u64 {
            kept.grown().await.unwrap();
        }
    })
    .await;
}

/// Waits until so many bytes are on this node's own disk.
async fn until_flushed(appender: &Appender, length: usize) {
    let mut durable = appender.durable();
    soon(async {
        while durable.length().unwrap() < length as u64 {
            durable.changed().await.unwrap();
        }
    })
    .await;
}

/// Waits until a node knows that another has sealed a file.
async fn until_told(replication: &Replication, name: FileName) {
    let view = &replication.shared.view;
    let mut told = view.subscribe(name);
    soon(async {
        while !view.most(name).1 {
            told.changed().await.unwrap();
        }
    })
    .await;
}
