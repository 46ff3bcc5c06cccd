//! What other nodes are told of a store, and how they copy from it and into it.

use super::*;

/// All that a follower gets, until the end.
async fn follow(files: &Files, name: FileName, offset: u64) -> (Vec<u8>, u64, Digest) {
    let mut follower = files.follow(name, offset).await.unwrap();
    let mut bytes = Vec::new();
    loop {
        match follower.next().await.unwrap() {
            Grown::Bytes(more) => bytes.extend_from_slice(&more),
            Grown::End { length, digest } => return (bytes, length, digest),
        }
    }
}

#[tokio::test]
async fn a_follower_gets_bytes_as_they_come_and_then_the_end() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let content = complete(&[(Kind::Stdout, b"one"), (Kind::Stderr, b"two")]);
    let mut appender = files.append(log_name(1), u64::MAX).await.unwrap();
    appender.write(0, Bytes::copy_from_slice(&content[..10])).await.unwrap();
    let mut follower = files.follow(log_name(1), 4).await.unwrap();
    let Grown::Bytes(bytes) = soon(follower.next()).await.unwrap() else { panic!("not yet") };
    assert_eq!(bytes, content[4..10]);
    appender.write(10, Bytes::copy_from_slice(&content[10..])).await.unwrap();
    let Grown::Bytes(bytes) = soon(follower.next()).await.unwrap() else { panic!("not yet") };
    assert_eq!(bytes, content[10..]);
    appender.seal(content.len() as u64, digest(&content)).await.unwrap();
    let Grown::End { length, digest: found } = soon(follower.next()).await.unwrap() else {
        panic!("no more")
    };
    assert_eq!((length, found), (content.len() as u64, digest(&content)));
    let again = soon(follow(&files, log_name(1), 0)).await;
    assert_eq!(again, (content.clone(), length, found));
}

#[tokio::test]
async fn what_is_not_there_is_neither_followed_nor_made() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    assert!(matches!(files.follow(log_name(1), 0).await, Err(FilesError::NotFound(_))));
    assert!(files.stat(log_name(1)).await.unwrap().is_none());
    store(&files, upload_name(b"abc"), b"abc").await;
    let beyond = files.follow(upload_name(b"abc"), 4).await;
    assert!(matches!(beyond, Err(FilesError::OffsetGap { length: 3 })));
}

#[tokio::test]
async fn a_follower_is_told_when_its_file_is_removed() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let _appender = files.append(log_name(1), u64::MAX).await.unwrap();
    let mut follower = files.follow(log_name(1), 0).await.unwrap();
    let removal = async { files.remove(log_name(1)).await.unwrap() };
    let (next, removed) = soon(async { tokio::join!(follower.next(), removal) }).await;
    assert!(removed);
    assert!(matches!(next, Err(FilesError::Removed(_))));
}

#[tokio::test]
async fn a_copy_and_a_writer_of_a_log_share_it_and_the_next_writer_ends_both() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let content = frames(&[(Kind::Stdout, b"one")]);
    let mut writer = files.append(log_name(1), u64::MAX).await.unwrap();
    let mut copy = files.copy(log_name(1)).await.unwrap();
    copy.write(0, content.clone().into()).await.unwrap();
    writer.write(0, content.clone().into()).await.unwrap();
    assert_eq!(writer.length(), content.len() as u64);
    let _next = files.append(log_name(1), u64::MAX).await.unwrap();
    assert!(matches!(writer.durable().length(), Err(FilesError::Superseded)));
    let error = copy.write(3, content.clone().into()).await.unwrap_err();
    assert!(matches!(error, FilesError::Superseded), "{error}");
}

#[tokio::test]
async fn each_change_is_told_and_many_at_once_as_one() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let changes = files.changes();
    let content = frames(&[(Kind::Stdout, b"one")]);
    let mut appender = files.append(log_name(1), u64::MAX).await.unwrap();
    for (at, byte) in (0..).zip(&content) {
        appender.write(at, Bytes::copy_from_slice(&[*byte])).await.unwrap();
    }
    reached(appender.durable(), content.len() as u64).await.unwrap();
    assert_eq!(soon(changes.take()).await, [log_name(1)]);
    let whole = complete(&[(Kind::Stdout, b"one")]);
    let rest = Bytes::copy_from_slice(&whole[content.len()..]);
    appender.write(content.len() as u64, rest).await.unwrap();
    appender.seal(whole.len() as u64, digest(&whole)).await.unwrap();
    assert_eq!(soon(changes.take()).await, [log_name(1)]);
    files.remove(log_name(1)).await.unwrap();
    assert_eq!(soon(changes.take()).await, [log_name(1)]);
    assert_eq!(files.holds(log_name(1)).await.unwrap(), None);
}

#[tokio::test]
async fn what_is_on_disk_is_known_of_a_part_that_nobody_uses_only_since_the_start() {
    let root = tempfile::tempdir().unwrap();
    let content = frames(&[(Kind::Stdout, b"one")]);
    let length = content.len() as u64;
    {
        let files = open(root.path());
        let mut appender = files.append(log_name(1), u64::MAX).await.unwrap();
        appender.write(0, content.into()).await.unwrap();
        reached(appender.durable(), length).await.unwrap();
        drop(appender);
        let held = files.holds(log_name(1)).await.unwrap().unwrap();
        assert_eq!((held.length, held.durable), (length, Some(length)));
    }
    let files = open(root.path());
    let held = files.holds(log_name(1)).await.unwrap().unwrap();
    assert_eq!((held.length, held.durable, held.sealed), (length, None, None));
    drop(files.copy(log_name(1)).await.unwrap());
    let held = files.holds(log_name(1)).await.unwrap().unwrap();
    assert_eq!(held.durable, Some(length), "it was flushed when it was opened");
    files.remove(log_name(1)).await.unwrap();
    let _new = files.append(log_name(1), u64::MAX).await.unwrap();
    assert_eq!(files.holds(log_name(1)).await.unwrap().unwrap().durable, Some(0));
}

#[tokio::test]
async fn the_time_of_a_sealed_file_goes_only_forward() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let name = upload_name(b"abc");
    let long_ago = std::time::UNIX_EPOCH + Duration::from_secs(1000);
    let mut appender = files.append(name, 3).await.unwrap();
    appender.write(0, Bytes::from_static(b"abc")).await.unwrap();
    appender.seal_as(3, digest(b"abc"), Some(long_ago)).await.unwrap();
    let modified = async || files.holds(name).await.unwrap().unwrap().modified;
    assert_eq!(modified().await, long_ago);
    let later = long_ago + Duration::from_secs(5);
    files.renew(name, later).await.unwrap();
    files.renew(name, long_ago).await.unwrap();
    assert_eq!(modified().await, later);
}

#[tokio::test]
async fn what_was_wanted_since_it_was_looked_at_is_not_removed() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let name = upload_name(b"abc");
    store(&files, name, b"abc").await;
    let seen = files.holds(name).await.unwrap().unwrap().modified;
    files.renew(name, seen + Duration::from_secs(5)).await.unwrap();
    assert!(!files.remove_as_of(name, seen).await.unwrap());
    assert!(files.remove_as_of(name, seen + Duration::from_secs(5)).await.unwrap());
    assert!(files.stat(name).await.unwrap().is_none());
}
