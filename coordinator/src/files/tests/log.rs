//! Following a log, and what becomes of readers.

use baton_proto::spool::HEADER_LEN;
use tokio_util::sync::CancellationToken;

use super::*;

fn follow() -> (CancellationToken, Follow) {
    let over = CancellationToken::new();
    (over.clone(), Follow::Until(over))
}

async fn data(reader: &mut LogReader) -> Bytes {
    match soon(reader.next()).await.unwrap() {
        Some(LogItem::Piece { data, .. }) => data,
        other => panic!("not a piece: {other:?}"),
    }
}

#[tokio::test]
async fn a_follower_sees_bytes_before_the_seal_and_ends_at_the_seal() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let parts: [(Kind, &[u8]); 2] = [(Kind::Stdout, b"one"), (Kind::Stderr, b"two")];
    let content = complete(&parts);
    let mut reader = files
        .read_log(log_name(1), Start::Offset(0), StreamFilter::Both, follow().1)
        .await
        .unwrap();

    let mut appender = files.append(log_name(1), 1000).await.unwrap();
    appender.write(0, Bytes::copy_from_slice(&content[..16])).await.unwrap();
    assert_eq!(data(&mut reader).await, "one");
    // Half a frame: what is there is shown.
    appender.write(16, Bytes::copy_from_slice(&content[16..30])).await.unwrap();
    assert_eq!(data(&mut reader).await, "t");
    appender.write(30, Bytes::copy_from_slice(&content[30..])).await.unwrap();
    assert_eq!(data(&mut reader).await, "wo");

    let (ended, ()) = tokio::join!(soon(reader.next()), async {
        appender.seal(content.len() as u64, digest(&content)).await.unwrap();
    });
    let end = LogEnd {
        file_length: content.len() as u64,
        file_blake3: digest(&content).to_string(),
        ..end_of(&parts)
    };
    assert_eq!(ended.unwrap(), Some(LogItem::End(end)));
    assert_eq!(reader.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_follower_that_is_told_no_more_will_come_gets_the_rest_and_ends() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let mut appender = files.append(log_name(1), 1000).await.unwrap();
    let (over, following) = follow();
    let mut reader =
        files.read_log(log_name(1), Start::Offset(0), StreamFilter::Both, following).await.unwrap();
    let content = frames(&[(Kind::Stdout, b"one"), (Kind::Stdout, b"two")]);
    let waiting = async {
        assert_eq!(data(&mut reader).await, "one");
        assert_eq!(data(&mut reader).await, "two");
        soon(reader.next()).await.unwrap()
    };
    let (last, ()) = tokio::join!(waiting, async {
        appender.write(0, content.into()).await.unwrap();
        over.cancel();
    });
    assert_eq!(last, None);
}

/// Writes `content` until it has `length` bytes.
async fn write_to(appender: &mut Appender, content: &[u8], length: usize) {
    let from = appender.length();
    let bytes = &content[usize::try_from(from).unwrap()..length];
    appender.write(from, Bytes::copy_from_slice(bytes)).await.unwrap();
}

#[tokio::test]
async fn a_follower_goes_on_at_a_position_that_a_growing_log_has_yet_to_reach_again() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let content = complete(&[(Kind::Stdout, b"first"), (Kind::Stdout, b"second")]);
    // Behind the first frame, inside of the second, and behind the second.
    for (number, (position, rest)) in (0..).zip([(18, "second"), (34, "ond"), (37, "")]) {
        for there in 0..position {
            let name = log_name(number * 100 + there as u64);
            let start = Start::Position(position as u64);
            let mut appender = files.append(name, 1000).await.unwrap();
            write_to(&mut appender, &content, there).await;
            let mut reader =
                files.read_log(name, start, StreamFilter::Both, follow().1).await.unwrap();
            let early = files.read_log(name, start, StreamFilter::Both, Follow::No).await;
            assert!(matches!(early, Err(FilesError::BadPosition { .. })), "{early:?}");

            let reading = async {
                let mut got = Vec::new();
                loop {
                    match soon(reader.next()).await.unwrap() {
                        Some(LogItem::Piece { data, .. }) => got.extend_from_slice(&data),
                        Some(LogItem::End(_)) => return got,
                        None => panic!("the end is missing"),
                    }
                }
            };
            let writing = async {
                for length in there..=content.len() {
                    write_to(&mut appender, &content, length).await;
                }
                appender.seal(content.len() as u64, digest(&content)).await.unwrap();
            };
            let (got, ()) = tokio::join!(reading, writing);
            assert_eq!(got, rest.as_bytes(), "{there} of {position}");
        }
    }
}

#[tokio::test]
async fn a_follower_of_a_log_that_never_reaches_its_position_again_ends() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let (over, following) = follow();
    let content = complete(&[(Kind::Stdout, b"one")]);
    let start = Start::Position(500);
    let name = log_name(1);
    let mut told = files.read_log(name, start, StreamFilter::Both, following).await.unwrap();
    let mut sealed = files.read_log(name, start, StreamFilter::Both, follow().1).await.unwrap();
    let mut appender = files.append(name, 1000).await.unwrap();
    let (last, ()) = tokio::join!(soon(told.next()), async {
        appender.write(0, content.clone().into()).await.unwrap();
        over.cancel();
    });
    assert_eq!(last.unwrap(), None);

    let (last, ()) = tokio::join!(soon(sealed.next()), async {
        appender.seal(content.len() as u64, digest(&content)).await.unwrap();
    });
    assert!(matches!(last, Err(FilesError::BadPosition { position: 500 })), "{last:?}");
    let late = files.read_log(name, start, StreamFilter::Both, follow().1).await;
    assert!(matches!(late, Err(FilesError::BadPosition { position: 500 })), "{late:?}");
}

#[tokio::test]
async fn who_does_not_follow_stops_at_the_end_and_may_look_again() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let missing =
        files.read_log(log_name(1), Start::Offset(0), StreamFilter::Both, Follow::No).await;
    let missing = missing.unwrap_err();
    let error = baton_proto::error::ApiError::from(missing);
    assert_eq!(error.reason, baton_proto::error::Reason::LogExpired);

    let content = frames(&[(Kind::Stdout, b"one"), (Kind::Stdout, b"two")]);
    let mut appender = files.append(log_name(1), 1000).await.unwrap();
    appender.write(0, Bytes::copy_from_slice(&content[..16])).await.unwrap();
    let mut reader = files
        .read_log(log_name(1), Start::Offset(0), StreamFilter::Both, Follow::No)
        .await
        .unwrap();
    assert_eq!(data(&mut reader).await, "one");
    assert_eq!(reader.next().await.unwrap(), None);
    appender.write(16, Bytes::copy_from_slice(&content[16..])).await.unwrap();
    assert_eq!(data(&mut reader).await, "two");
    assert_eq!(reader.next().await.unwrap(), None);
}

#[tokio::test]
async fn a_reader_dropped_in_the_middle_of_a_wait_loses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let text = "x".repeat(500);
    let content = frames(&[(Kind::Stdout, text.as_bytes())]);
    let mut appender = files.append(log_name(1), 1000).await.unwrap();
    let (over, following) = follow();
    let mut reader =
        files.read_log(log_name(1), Start::Offset(0), StreamFilter::Both, following).await.unwrap();
    let writing = async {
        for (at, byte) in (0..).zip(content) {
            appender.write(at, Bytes::copy_from_slice(&[byte])).await.unwrap();
        }
        over.cancel();
    };
    let reading = async {
        let mut got = Vec::new();
        loop {
            tokio::select! {
                biased;
                item = reader.next() => match item.unwrap() {
                    Some(LogItem::Piece { data, .. }) => got.extend_from_slice(&data),
                    _ => return got,
                },
                () = tokio::task::yield_now() => {}
            }
        }
    };
    let ((), got) = soon(async { tokio::join!(writing, reading) }).await;
    assert_eq!(got, text.as_bytes());
}

#[tokio::test]
async fn removing_a_log_ends_its_readers_and_its_writer() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let mut appender = files.append(log_name(1), 1000).await.unwrap();
    appender.write(0, frames(&[(Kind::Stdout, b"one")]).into()).await.unwrap();
    let mut reader = files
        .read_log(log_name(1), Start::Offset(0), StreamFilter::Both, follow().1)
        .await
        .unwrap();
    assert_eq!(data(&mut reader).await, "one");
    let (read, removed) = tokio::join!(soon(reader.next()), files.remove(log_name(1)));
    assert!(removed.unwrap());
    assert!(matches!(read, Err(FilesError::Removed(_))), "{read:?}");
    let write = appender.write(0, Bytes::new()).await;
    assert!(matches!(write, Err(FilesError::Removed(_))), "{write:?}");
    assert!(matches!(appender.durable().length(), Err(FilesError::Removed(_))));
    assert!(!files.remove(log_name(1)).await.unwrap());
    assert_eq!(files.stat(log_name(1)).await.unwrap(), None);
}

#[tokio::test]
async fn reading_and_sealing_at_the_same_time_misses_nothing() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    for number in 0..100 {
        let content = complete(&[(Kind::Stdout, b"one"), (Kind::Stdout, &[b'x'; 300])]);
        let mut appender = files.append(log_name(number), 1000).await.unwrap();
        let mut reader = files
            .read_log(log_name(number), Start::Offset(0), StreamFilter::Stdout, follow().1)
            .await
            .unwrap();
        let writing = async {
            for (at, chunk) in (0..).step_by(20).zip(content.chunks(20)) {
                appender.write(at, Bytes::copy_from_slice(chunk)).await.unwrap();
            }
            appender.seal(content.len() as u64, digest(&content)).await.unwrap();
        };
        let reading = async {
            let mut got = 0;
            loop {
                match reader.next().await.unwrap() {
                    Some(LogItem::Piece { data, .. }) => got += data.len(),
                    Some(LogItem::End(_)) => return got,
                    None => panic!("the end is missing"),
                }
            }
        };
        let ((), got) = soon(async { tokio::join!(writing, reading) }).await;
        assert_eq!(got, 303);
    }
}

#[tokio::test]
async fn indexes_of_few_logs_stay_in_memory() {
    let root = tempfile::tempdir().unwrap();
    let options = FilesOptions { cached_indexes: 3, ..small() };
    let files = Files::open(root.path().join("files"), options).unwrap();
    let content = complete(&[(Kind::Stdout, b"one"), (Kind::Stdout, b"two")]);
    for number in 0..10 {
        store(&files, log_name(number), &content).await;
        let mut reader = files
            .read_log(log_name(number), Start::Offset(3), StreamFilter::Both, Follow::No)
            .await
            .unwrap();
        assert_eq!(data(&mut reader).await, "two");
    }
    assert_eq!(files.inner.indexes.len(), 3);
}

#[tokio::test]
async fn who_reads_all_of_a_log_is_told_the_digest_of_what_came() {
    let root = tempfile::tempdir().unwrap();
    let files = open(root.path());
    let content = complete(&[(Kind::Stdout, b"fine"), (Kind::Stderr, b"too")]);
    store(&files, log_name(1), &content).await;
    let mut damaged = content.clone();
    let place = damaged.windows(4).position(|window| window == b"fine").unwrap();
    damaged[place] = b'F';
    std::fs::write(log_name(1).sealed_path(&files.inner.root), &damaged).unwrap();
    let all = [(Start::Offset(0), StreamFilter::Both), (Start::Offset(1), StreamFilter::Both)];
    let second = (HEADER_LEN + b"fine".len()) as u64;
    let part =
        [(Start::Position(second), StreamFilter::Both), (Start::Offset(0), StreamFilter::Stderr)];
    let ends =
        all.map(|read| (read, &damaged)).into_iter().chain(part.map(|read| (read, &content)));
    for ((start, filter), digested) in ends {
        let mut reader = files.read_log(log_name(1), start, filter, Follow::No).await.unwrap();
        let end = loop {
            match reader.next().await.unwrap() {
                Some(LogItem::Piece { .. }) => {}
                Some(LogItem::End(end)) => break end,
                None => panic!("no end"),
            }
        };
        assert_eq!(end.file_blake3, digest(digested).to_string(), "{start:?} {filter:?}");
    }
}
