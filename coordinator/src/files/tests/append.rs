//! Offsets, limits, durability, takeover, sharing and seal.

use super::*;

#[tokio::test]
async fn a_chunk_beyond_the_end_is_a_gap_that_names_the_length() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let mut appender = files.append(upload_name(b"abcdef"), 6).await.unwrap();
    appender.write(0, Bytes::from_static(b"abc")).await.unwrap();
    let error = appender.write(4, Bytes::from_static(b"ef")).await.unwrap_err();
    assert!(matches!(error, FilesError::OffsetGap { length: 3 }), "{error}");
    assert!(matches!(
        appender.write(u64::MAX, Bytes::from_static(b"x")).await,
        Err(FilesError::OffsetGap { length: 3 })
    ));
    assert_eq!(appender.length(), 3);
}

#[tokio::test]
async fn bytes_sent_again_change_nothing() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let name = upload_name(b"abcdef");
    let mut appender = files.append(name, 6).await.unwrap();
    assert_eq!(appender.write(0, Bytes::from_static(b"abc")).await.unwrap(), 3);
    assert_eq!(appender.write(0, Bytes::from_static(b"ab")).await.unwrap(), 3);
    assert_eq!(appender.write(1, Bytes::from_static(b"bcdef")).await.unwrap(), 6);
    assert_eq!(appender.write(0, Bytes::from_static(b"abcdef")).await.unwrap(), 6);
    assert_eq!(on_disk(&files, name), b"abcdef");
}

#[tokio::test]
async fn a_file_does_not_exceed_its_limit() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let name = upload_name(b"abcd");
    let mut appender = files.append(name, 4).await.unwrap();
    appender.write(0, Bytes::from_static(b"ab")).await.unwrap();
    let error = appender.write(2, Bytes::from_static(b"cde")).await.unwrap_err();
    assert!(matches!(error, FilesError::TooLarge { limit: 4 }), "{error}");
    assert_eq!(appender.write(2, Bytes::from_static(b"cd")).await.unwrap(), 4);
    assert_eq!(on_disk(&files, name), b"abcd");
}

#[tokio::test]
async fn everything_written_to_many_files_at_once_is_acknowledged() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let mut writers = tokio::task::JoinSet::new();
    for number in 0_u64..200 {
        let files = files.clone();
        writers.spawn(async move {
            let content = number.to_string().repeat(50);
            let mut appender = files.append(upload_name(content.as_bytes()), 1000).await.unwrap();
            for (at, chunk) in (0..).step_by(10).zip(content.as_bytes().chunks(10)) {
                appender.write(at, Bytes::copy_from_slice(chunk)).await.unwrap();
            }
            reached(appender.durable(), content.len() as u64).await.unwrap();
            assert_eq!(appender.durable().length().unwrap(), content.len() as u64);
        });
    }
    assert_eq!(soon(writers.join_all()).await.len(), 200);
}

#[tokio::test]
async fn acknowledgements_grow_and_never_exceed_what_is_written() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let mut appender = files.append(upload_name(b""), 100).await.unwrap();
    let mut durable = appender.durable();
    let mut last = 0;
    for at in 0..20 {
        appender.write(at, Bytes::from_static(b"x")).await.unwrap();
        let now = durable.length().unwrap();
        assert!((last..=at + 1).contains(&now), "{last} <= {now} <= {}", at + 1);
        last = now;
    }
    while last < 20 {
        last = soon(durable.changed()).await.unwrap();
    }
    assert_eq!(last, 20);
}

#[tokio::test]
async fn a_new_appender_takes_a_log_over() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let name = log_name(1);
    let content = complete(&[(Kind::Stdout, b"abcd")]);
    let (first, rest) = content.split_at(15);
    let length = content.len() as u64;
    let mut older = files.append(name, length).await.unwrap();
    older.write(0, Bytes::copy_from_slice(first)).await.unwrap();
    let waiting = older.durable();
    reached(older.durable(), 15).await.unwrap();

    let mut newer = files.append(name, length).await.unwrap();
    assert_eq!(newer.length(), 15);
    assert_eq!(newer.durable().length().unwrap(), 15);
    assert!(matches!(soon(reached(waiting, length)).await, Err(FilesError::Superseded)));
    let refused = older.write(15, Bytes::copy_from_slice(rest)).await;
    assert!(matches!(refused, Err(FilesError::Superseded)));
    assert!(matches!(older.seal(15, digest(first)).await, Err(FilesError::Superseded)));

    newer.write(15, Bytes::copy_from_slice(rest)).await.unwrap();
    newer.seal(length, digest(&content)).await.unwrap();
    assert_eq!(on_disk(&files, name), content);
}

#[tokio::test]
async fn two_appenders_of_one_upload_both_end_well() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let name = upload_name(b"abcdef");
    let mut one = files.append(name, 6).await.unwrap();
    one.write(0, Bytes::from_static(b"ab")).await.unwrap();
    let mut other = files.append(name, 6).await.unwrap();
    assert_eq!(other.length(), 2);
    let mut told = one.durable();
    other.write(0, Bytes::from_static(b"abcd")).await.unwrap();
    assert_eq!(one.write(2, Bytes::from_static(b"cd")).await.unwrap(), 4);
    one.write(4, Bytes::from_static(b"ef")).await.unwrap();
    assert_eq!(soon(reached(told.clone(), 6)).await.unwrap(), 6);
    assert_eq!(other.length(), 6);

    other.seal(6, digest(b"abcdef")).await.unwrap();
    assert_eq!(told.length().unwrap(), 6);
    assert_eq!(one.write(4, Bytes::from_static(b"ef")).await.unwrap(), 6);
    one.seal(6, digest(b"abcdef")).await.unwrap();
    assert_eq!(on_disk(&files, name), b"abcdef");
}

#[tokio::test]
async fn who_shared_an_upload_with_a_wrong_writer_is_told_to_begin_again() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let name = upload_name(b"abcd");
    let mut wrong = files.append(name, 4).await.unwrap();
    wrong.write(0, Bytes::from_static(b"aX")).await.unwrap();
    let mut right = files.append(name, 4).await.unwrap();
    let mut idle = files.append(name, 4).await.unwrap();
    right.write(2, Bytes::from_static(b"cd")).await.unwrap();
    let told = idle.durable();

    let sealed = right.seal(4, digest(b"abcd")).await.unwrap_err();
    assert!(matches!(sealed, FilesError::Restarted(_)), "{sealed}");
    let removed = soon(reached(told, u64::MAX)).await.unwrap_err();
    let mut again = files.append(name, 4).await.unwrap();
    assert_eq!(again.length(), 0);
    let write = idle.write(0, Bytes::from_static(b"ab")).await.unwrap_err();
    let length = idle.durable().length().unwrap_err();
    let other = wrong.seal(4, digest(b"abcd")).await.unwrap_err();
    for error in [sealed, removed, write, length, other] {
        let error = baton_proto::error::ApiError::from(error);
        assert_eq!(error.reason, baton_proto::error::Reason::UploadRestarted);
    }

    again.write(0, Bytes::from_static(b"abcd")).await.unwrap();
    again.seal(4, digest(b"abcd")).await.unwrap();
    assert_eq!(on_disk(&files, name), b"abcd");
}

#[tokio::test]
async fn an_upload_that_an_earlier_writer_made_too_long_can_start_anew() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let name = upload_name(b"abcd");
    let mut wrong = files.append(name, 9).await.unwrap();
    wrong.write(0, Bytes::from_static(b"abcdef")).await.unwrap();
    let mut right = files.append(name, 4).await.unwrap();
    let error = right.seal(4, digest(b"abcd")).await.unwrap_err();
    assert!(matches!(error, FilesError::Restarted(_)), "{error}");
    store(&files, name, b"abcd").await;
    assert_eq!(on_disk(&files, name), b"abcd");
}

#[tokio::test]
async fn a_sealed_file_takes_what_it_has_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let log = complete(&[(Kind::Stdout, b"hello")]);
    for (name, content) in [(upload_name(b"abcd"), b"abcd".to_vec()), (log_name(1), log)] {
        store(&files, name, &content).await;
        let length = content.len() as u64;
        let mut appender = files.append(name, length).await.unwrap();
        assert_eq!(appender.length(), length);
        soon(reached(appender.durable(), length)).await.unwrap();
        assert_eq!(appender.write(0, content.clone().into()).await.unwrap(), length);
        appender.seal(length, digest(&content)).await.unwrap();

        let beyond = appender.write(length, Bytes::from_static(b"x")).await;
        assert!(matches!(beyond, Err(FilesError::Sealed { length: at }) if at == length));
        let gap = appender.write(length + 1, Bytes::from_static(b"x")).await;
        assert!(matches!(gap, Err(FilesError::OffsetGap { length: at }) if at == length));
        let other = appender.seal(length, digest(b"other")).await;
        assert!(matches!(other, Err(FilesError::ChecksumMismatch { .. })));
        let shorter = appender.seal(length - 1, digest(&content)).await;
        assert!(matches!(shorter, Err(FilesError::LengthMismatch { .. })));
        assert_eq!(on_disk(&files, name), content);
    }
}

#[tokio::test]
async fn a_file_with_missing_bytes_is_not_sealed() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let name = upload_name(b"abcd");
    let mut appender = files.append(name, 4).await.unwrap();
    appender.write(0, Bytes::from_static(b"ab")).await.unwrap();
    let error = appender.seal(4, digest(b"abcd")).await.unwrap_err();
    assert!(matches!(error, FilesError::OffsetGap { length: 2 }), "{error}");
    appender.write(2, Bytes::from_static(b"cd")).await.unwrap();
    appender.seal(4, digest(b"abcd")).await.unwrap();
    assert!(files.stat(name).await.unwrap().unwrap().sealed);
}

#[tokio::test]
async fn an_upload_of_other_content_is_discarded_and_can_start_anew() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let name = upload_name(b"abcd");
    for promised in [b"abcd", b"abcX"] {
        let mut appender = files.append(name, 4).await.unwrap();
        assert_eq!(appender.length(), 0);
        appender.write(0, Bytes::from_static(b"abcX")).await.unwrap();
        let error = appender.seal(4, digest(promised)).await.unwrap_err();
        assert!(matches!(error, FilesError::ChecksumMismatch { .. }), "{error}");
        assert_eq!(files.stat(name).await.unwrap(), None);
        let after = appender.write(4, Bytes::new()).await;
        assert!(matches!(after, Err(FilesError::Removed(_))));
    }
    store(&files, name, b"abcd").await;
    assert_eq!(on_disk(&files, name), b"abcd");
}

#[tokio::test]
async fn a_log_with_another_digest_is_not_sealed_but_kept() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let content = complete(&[(Kind::Stderr, b"oh")]);
    let mut appender = files.append(log_name(1), 1000).await.unwrap();
    appender.write(0, content.clone().into()).await.unwrap();
    let error = appender.seal(content.len() as u64, digest(b"other")).await.unwrap_err();
    assert!(matches!(error, FilesError::ChecksumMismatch { .. }), "{error}");
    assert!(!files.stat(log_name(1)).await.unwrap().unwrap().sealed);
    assert_eq!(on_disk(&files, log_name(1)), content);
    appender.seal(content.len() as u64, digest(&content)).await.unwrap();
}

#[tokio::test]
async fn a_log_without_its_end_is_not_sealed() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let content = frames(&[(Kind::Stdout, b"half")]);
    let mut appender = files.append(log_name(1), 1000).await.unwrap();
    appender.write(0, content.clone().into()).await.unwrap();
    let error = appender.seal(content.len() as u64, digest(&content)).await.unwrap_err();
    assert!(
        matches!(error, FilesError::MalformedLog { fault: LogFault::Unfinished, .. }),
        "{error}"
    );
}

#[tokio::test]
async fn hostile_frames_are_refused_before_they_are_stored() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let good = frames(&[(Kind::Stdout, b"good"), (Kind::Note, "grüß".as_bytes())]);
    let ended = complete(&[(Kind::Stdout, b"good")]);
    let mut long = good.clone();
    long.extend(spool::Header { kind: Kind::Stdout, time: 0, len: u32::MAX }.encode());
    let mut lying = good.clone();
    spool::push_end(&mut lying, 0, &LogEnd { stdout_length: 5, ..LogEnd::default() });
    let mut no_end = good.clone();
    spool::push_frame(&mut no_end, Kind::End, 0, b"\xff\xff");
    let cases = [
        ("an unknown kind", [&good[..], &[9; 13]].concat()),
        ("an endless frame", long),
        ("a note that is no text", [&good[..], &frames(&[(Kind::Note, b"\xff")])].concat()),
        ("an end that lies", lying),
        ("an end that is none", no_end),
        ("bytes after the end", [&ended[..], &good].concat()),
    ];
    for (number, (what, content)) in (0..).zip(cases) {
        let name = log_name(number);
        let mut whole = files.append(name, 1000).await.unwrap();
        let refused = whole.write(0, content.clone().into()).await;
        assert!(matches!(refused, Err(FilesError::MalformedLog { .. })), "{what}: {refused:?}");
        assert_eq!(on_disk(&files, name), b"", "{what}");

        let mut stored = 0;
        let refused = loop {
            assert!(stored < content.len(), "{what}: all was stored");
            let byte = Bytes::copy_from_slice(&content[stored..=stored]);
            match whole.write(stored as u64, byte).await {
                Ok(_) => stored += 1,
                Err(error) => break error,
            }
        };
        assert!(matches!(refused, FilesError::MalformedLog { .. }), "{what}: {refused}");
        assert_eq!(on_disk(&files, name), &content[..stored], "{what}");
    }
}
