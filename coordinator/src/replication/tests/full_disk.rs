//! A node whose own disk takes nothing of what the others have.

use std::{
    fs::File,
    io,
    path::Path,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tokio::time::sleep;

use super::{
    threadless::{InMemory, flush, open, start},
    *,
};
use crate::files::{Disk, SystemDisk};

/// Takes nothing while it is full, and counts what it refused.
#[derive(Clone, Debug, Default)]
struct Filling(Arc<Filled>);

#[derive(Debug, Default)]
struct Filled {
    is_full: AtomicBool,
    refused: AtomicUsize,
}

impl Filling {
    fn take(&self) -> io::Result<()> {
        if !self.0.is_full.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.0.refused.fetch_add(1, Ordering::Relaxed);
        Err(io::ErrorKind::StorageFull.into())
    }

    fn fill(&self, is_full: bool) {
        self.0.is_full.store(is_full, Ordering::Relaxed);
    }

    fn refused(&self) -> usize {
        self.0.refused.load(Ordering::Relaxed)
    }
}

impl Disk for Filling {
    fn create(&self, path: &Path) -> io::Result<File> {
        self.take()?;
        SystemDisk.create(path)
    }

    fn write_all_at(&self, path: &Path, file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.take()?;
        SystemDisk.write_all_at(path, file, bytes, offset)
    }

    fn set_len(&self, path: &Path, file: &File, length: u64) -> io::Result<()> {
        SystemDisk.set_len(path, file, length)
    }

    fn sync_data(&self, path: &Path, file: &File) -> io::Result<()> {
        SystemDisk.sync_data(path, file)
    }

    fn sync_all(&self, path: &Path, file: &File) -> io::Result<()> {
        SystemDisk.sync_all(path, file)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        SystemDisk.sync_folder(folder)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        SystemDisk.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        SystemDisk.remove(path)
    }
}

/// Files that are sealed, and one that grows.
const SEALED: u64 = 20;

#[tokio::test(start_paused = true)]
async fn a_full_disk_is_tried_now_and_then_and_callers_are_told_and_with_room_all_comes() {
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let disk = Filling::default();
    let [one, two] = [open(folders[0].path(), SystemDisk), open(folders[1].path(), disk.clone())];
    let tasks = TaskTracker::new();
    let _first = start(1, &one, InMemory::of(&[(2, &two)]), &tasks);
    let second = start(2, &two, InMemory::of(&[(1, &one)]), &tasks);
    flush(&[&one, &two], &tasks);

    // What is being copied already goes on to be refused.
    let (grows, piece) = (log_name(0), frame(b"piece"));
    let mut appender = write(&one, grows, &piece).await;
    until_length(&two, grows, piece.len()).await;
    disk.fill(true);
    let content = complete(&[7; 60_000]);
    for number in 1..=SEALED {
        store(&one, log_name(number), &content).await;
    }
    for pieces in 1..1_000 {
        let at = (pieces * piece.len()) as u64;
        appender.write(at, piece.clone().into()).await.unwrap();
        sleep(Duration::from_millis(60)).await;
    }
    let refused = disk.refused();
    assert!((10..60).contains(&refused), "in a minute it was tried {refused} times");

    let told = soon(second.ensure(log_name(1))).await;
    assert!(matches!(told, Err(FilesError::DiskFull)), "{told:?}");
    assert!(matches!(soon(second.ensure(log_name(99))).await, Ok(())), "nobody has that");

    disk.fill(false);
    soon(second.ensure(log_name(1))).await.unwrap();
    for number in 1..=SEALED {
        until_sealed(&two, log_name(number)).await;
    }
    until_length(&two, grows, 1_000 * piece.len()).await;
}
