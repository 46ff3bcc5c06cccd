//! Crashes, full disks, disks that fail, and running out of descriptors.

use std::{
    fs::{self, File, OpenOptions},
    io::Write as _,
    path::Path,
    sync::Arc,
};

use super::{super::entry::Content, *};

/// Copies a store as a crash at this moment would leave it.
fn crash(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            crash(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash_and_the_file_goes_on() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let content = complete(&[(Kind::Stdout, &[7; 200]), (Kind::Note, b"n"), (Kind::Stderr, b"e")]);
    for cut in 0..content.len() {
        let name = log_name(cut as u64);
        let mut appender = files.append(name, 1000).await.unwrap();
        appender.write(0, Bytes::copy_from_slice(&content[..cut])).await.unwrap();
        soon(reached(appender.durable(), cut as u64)).await.unwrap();
    }
    crash(&root.path().join("files"), &root.path().join("after/files"));

    let after = open(&root.path().join("after"));
    for cut in 0..content.len() {
        let name = log_name(cut as u64);
        let mut appender = after.append(name, 1000).await.unwrap();
        assert_eq!(appender.length(), cut as u64);
        assert_eq!(appender.durable().length().unwrap(), cut as u64);
        appender.write(cut as u64, Bytes::copy_from_slice(&content[cut..])).await.unwrap();
        appender.seal(content.len() as u64, digest(&content)).await.unwrap();
        assert_eq!(on_disk(&after, name), content);
    }
}

#[tokio::test]
async fn a_sealed_file_is_sealed_after_a_restart() {
    let root = tempfile::tempdir().unwrap();
    let content = complete(&[(Kind::Stdout, b"x")]);
    store(&open(root.path()), log_name(1), &content).await;

    let files = open(root.path());
    let stat = files.stat(log_name(1)).await.unwrap().unwrap();
    assert!(stat.sealed);
    assert_eq!((stat.length, stat.digest), (content.len() as u64, Some(digest(&content))));
    fs::remove_file(log_name(1).digest_path(&files.inner.root)).unwrap();
    let mut appender = files.append(log_name(1), 1000).await.unwrap();
    appender.seal(content.len() as u64, digest(&content)).await.unwrap();
    let other = appender.seal(content.len() as u64, digest(b"other")).await;
    assert!(matches!(other, Err(FilesError::ChecksumMismatch { .. })));
}

#[tokio::test]
async fn what_a_crash_left_behind_the_last_frame_is_cut_off() {
    let root = tempfile::tempdir().unwrap();
    let content = frames(&[(Kind::Stdout, b"whole"), (Kind::Stderr, b"too")]);
    {
        let files = open(root.path());
        let mut appender = files.append(log_name(1), 1000).await.unwrap();
        appender.write(0, content.clone().into()).await.unwrap();
        let path = log_name(1).part_path(&files.inner.root);
        OpenOptions::new().append(true).open(path).unwrap().write_all(&[0; 500]).unwrap();
    }
    let files = open(root.path());
    let appender = files.append(log_name(1), 1000).await.unwrap();
    assert_eq!(appender.length(), content.len() as u64);
    assert_eq!(on_disk(&files, log_name(1)), content);
}

/// Puts a device under a growing file.
fn put_under(appender: &Files, name: FileName, device: &str) {
    let entry = appender.inner.entry(name);
    let mut slot = lock(&entry.slot);
    let Content::Open(part) = &mut slot.content else { panic!("the file is not open") };
    let device = File::options().read(true).write(true).open(device).unwrap();
    part.file = Some(Arc::new(device));
}

#[tokio::test]
async fn a_file_that_cannot_be_flushed_is_given_up_and_reopens_at_what_was_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let name = upload_name(b"abcdef");
    let mut appender = files.append(name, 6).await.unwrap();
    appender.write(0, Bytes::from_static(b"ab")).await.unwrap();
    soon(reached(appender.durable(), 2)).await.unwrap();

    // It takes writes, and refuses to flush.
    put_under(&files, name, "/dev/null");
    appender.write(2, Bytes::from_static(b"cd")).await.unwrap();
    assert!(matches!(soon(reached(appender.durable(), 4)).await, Err(FilesError::SyncFailed)));
    let after = appender.write(4, Bytes::from_static(b"ef")).await;
    assert!(matches!(after, Err(FilesError::SyncFailed)));
    let sealed = appender.seal(4, digest(b"abcd")).await;
    assert!(matches!(sealed, Err(FilesError::SyncFailed)));

    let mut again = files.append(name, 6).await.unwrap();
    assert_eq!(again.length(), 2);
    again.write(2, Bytes::from_static(b"cdef")).await.unwrap();
    again.seal(6, digest(b"abcdef")).await.unwrap();
}

#[tokio::test]
async fn a_seal_that_cannot_be_flushed_is_not_a_seal() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let name = upload_name(b"ab");
    let mut appender = files.append(name, 2).await.unwrap();
    appender.write(0, Bytes::from_static(b"ab")).await.unwrap();
    soon(reached(appender.durable(), 2)).await.unwrap();
    put_under(&files, name, "/dev/null");
    assert!(matches!(appender.seal(2, digest(b"ab")).await, Err(FilesError::SyncFailed)));
    assert!(!files.stat(name).await.unwrap().unwrap().sealed);
}

#[tokio::test]
async fn a_torn_end_that_cannot_be_cut_off_ends_the_file() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let name = upload_name(b"ab");
    let mut appender = files.append(name, 2).await.unwrap();
    put_under(&files, name, "/dev/full");
    let full = appender.write(0, Bytes::from_static(b"ab")).await;
    assert!(matches!(full, Err(FilesError::DiskFull)));
    let after = appender.write(0, Bytes::from_static(b"ab")).await;
    assert!(matches!(after, Err(FilesError::SyncFailed)));
}

/// A file system of 256 KiB; gone when dropped.
struct TinyDisk(tempfile::TempDir);

impl TinyDisk {
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().to_str().unwrap().to_owned();
        let mounted = run("mount", &["-t", "tmpfs", "-o", "size=256k", "tmpfs", &path]);
        mounted.then_some(Self(folder))
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        run("umount", &["-l", self.0.path().to_str().unwrap()]);
    }
}

#[expect(clippy::disallowed_methods, reason = "mounting is beyond the standard library")]
fn run(program: &str, arguments: &[&str]) -> bool {
    std::process::Command::new(program)
        .args(arguments)
        .status()
        .is_ok_and(|status| status.success())
}

#[tokio::test]
async fn a_full_disk_leaves_the_file_as_it_was_and_it_goes_on_when_there_is_space() {
    let Some(disk) = TinyDisk::mount() else {
        // Past the test runner, which keeps what a test prints that does not fail.
        let told = b"\nSKIPPED: only root can mount a file system small enough to fill\n";
        std::io::stderr().write_all(told).unwrap();
        return;
    };
    let files = open(disk.0.path());
    let chunk = frames(&[(Kind::Stdout, &[b'x'; 10_000])]);
    let ballast = disk.0.path().join("ballast");
    fs::write(&ballast, [0; 100_000]).unwrap();
    let mut appender = files.append(log_name(1), u64::MAX).await.unwrap();
    let mut length = 0;
    let full = loop {
        match appender.write(length, chunk.clone().into()).await {
            Ok(now) => length = now,
            Err(error) => break error,
        }
        assert!(length < 1_000_000, "the disk never got full");
    };
    assert!(matches!(full, FilesError::DiskFull), "{full}");
    assert!(length > 0);
    assert_eq!(on_disk(&files, log_name(1)), chunk.repeat(length as usize / chunk.len()));
    let other = files.append(log_name(2), 10).await;
    let refused = match other {
        Ok(mut other) => other.write(0, Bytes::from_static(&[1; 9])).await.map(drop),
        Err(error) => Err(error),
    };
    assert!(!matches!(refused, Err(FilesError::Io { .. })), "{refused:?}");

    fs::remove_file(ballast).unwrap();
    appender.write(length, chunk.clone().into()).await.unwrap();
    soon(reached(appender.durable(), length + chunk.len() as u64)).await.unwrap();
}

/// Descriptors of this process that are files below a folder.
fn descriptors_below(root: &Path) -> usize {
    let open = fs::read_dir("/proc/self/fd").unwrap();
    open.filter_map(|fd| fs::read_link(fd.ok()?.path()).ok())
        .filter(|path| path.starts_with(root))
        .count()
}

#[tokio::test]
async fn descriptors_stay_few_however_many_files_grow() {
    let root = tempfile::tempdir().unwrap();
    let options = FilesOptions { open_files: 5, ..small() };
    let files = Files::open(root.path().join("files"), options).unwrap();
    let registry = Arc::clone(&files.inner.registry);
    let content = complete(&[(Kind::Stdout, b"hello")]);
    let mut appenders = Vec::new();
    for number in 0..40 {
        let mut appender = files.append(log_name(number), 1000).await.unwrap();
        appender.write(0, Bytes::copy_from_slice(&content[..10])).await.unwrap();
        soon(reached(appender.durable(), 10)).await.unwrap();
        appenders.push(appender);
    }
    // The newest, those within the limit, and one a flush may still hold.
    let open = descriptors_below(root.path());
    assert!((1..=7).contains(&open), "{open} descriptors");

    for appender in &mut appenders {
        appender.write(10, Bytes::copy_from_slice(&content[10..])).await.unwrap();
        appender.seal(content.len() as u64, digest(&content)).await.unwrap();
    }
    drop(appenders);
    drop(files);
    assert_eq!(registry.len(), 0);
    assert_eq!(descriptors_below(root.path()), 0);
}
