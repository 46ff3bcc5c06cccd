//! What survives crashes, damage and full disks.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use baton_state::Timestamp;
use sqlx::{ConnectOptions as _, Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::task::JoinSet;

use super::fixtures::{all, batch, newest_first, plain, reached, send, stored};
use crate::{
    environment::SystemThreads,
    history::{Error, History, QUEUE, READERS, Retention, sql::Database},
};

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn files_copied_in_mid_flight_open_as_after_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let history = History::open(&path).await.unwrap();
    let jobs = plain(1..=30);
    send(&history, batch(&jobs)).await;
    reached(&history, 30).await;
    let copy = tempfile::tempdir().unwrap();
    for name in ["history.db", "history.db-wal"] {
        fs::copy(folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let copied = History::open(copy.path().join("history.db")).await.unwrap();
    assert_eq!(*copied.position().borrow(), 30);
    assert_eq!(all(&copied).await, newest_first(&jobs));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_torn_end_of_the_write_ahead_log_loses_whole_batches_only() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let history = History::open(&path).await.unwrap();
    let jobs = plain(1..=30);
    send(&history, batch(&jobs[..10])).await;
    reached(&history, 10).await;
    let wal = folder.path().join("history.db-wal");
    let first = fs::metadata(&wal).unwrap().len();
    send(&history, batch(&jobs[10..])).await;
    reached(&history, 30).await;
    let second = fs::metadata(&wal).unwrap().len();
    assert!(second > first);
    for kept in [first, (first + second) / 2, second - 1] {
        let copy = tempfile::tempdir().unwrap();
        let path = copy.path().join("history.db");
        fs::copy(folder.path().join("history.db"), &path).unwrap();
        let bytes = fs::read(&wal).unwrap();
        fs::write(copy.path().join("history.db-wal"), &bytes[..kept.try_into().unwrap()]).unwrap();
        let copied = History::open(&path).await.unwrap();
        assert_eq!(*copied.position().borrow(), 10);
        send(&copied, batch(&jobs)).await;
        reached(&copied, 30).await;
        assert_eq!(all(&copied).await, newest_first(&jobs));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_durable_is_in_the_main_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let history = History::open(&path).await.unwrap();
    let jobs = plain(1..=30);
    send(&history, batch(&jobs)).await;
    reached(&history, 30).await;
    let copy = tempfile::tempdir().unwrap();
    assert_eq!(history.make_durable().await.unwrap(), 30);
    fs::copy(&path, copy.path().join("history.db")).unwrap();
    let copied = History::open(copy.path().join("history.db")).await.unwrap();
    assert_eq!(*copied.position().borrow(), 30);
    assert_eq!(all(&copied).await, newest_first(&jobs));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_of_an_old_state_delays_durability_and_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let history = History::open(&path).await.unwrap();
    send(&history, batch(&plain(1..=1))).await;
    reached(&history, 1).await;
    let mut reader = raw(&path).await;
    let mut reading = reader.begin().await.unwrap();
    let _: i64 =
        sqlx::query_scalar("SELECT through FROM progress").fetch_one(&mut *reading).await.unwrap();
    send(&history, batch(&plain(2..=2))).await;
    reached(&history, 2).await;
    assert!(matches!(history.make_durable().await, Err(Error::Busy)));
    reading.rollback().await.unwrap();
    assert_eq!(history.make_durable().await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing_and_a_prune_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let history =
        History::start(Database::new(&path).limited_to(100), Arc::new(SystemThreads), READERS)
            .await
            .unwrap();
    let jobs = plain(1..=400);
    let mut chunks = jobs.chunks(8);
    let unwritten = loop {
        let chunk = chunks.next().expect("the disk is full before all are stored");
        send(&history, batch(chunk)).await;
        if !stored(&history, chunk[7].number).await {
            break chunk;
        }
    };
    let error = history.health().unwrap();
    assert!(error.contains("full"), "{error}");
    let full = *history.position().borrow();
    assert_eq!(full + 1, unwritten[0].number);
    let written = &jobs[..usize::try_from(full).unwrap()];
    assert_eq!(all(&history).await, newest_first(written));
    let retention = Retention { max_age: None, oldest: 50, batch: 50 };
    let mut pruned = Vec::new();
    while pruned.len() < written.len() {
        let gone = history.prune(Timestamp(0), retention).await.unwrap();
        pruned.extend(gone.iter().map(|job| job.id));
    }
    pruned.reverse();
    // The last prune may have met jobs that found room again.
    let kept = &jobs[pruned.len()..usize::try_from(unwritten[7].number).unwrap()];
    assert_eq!(pruned, newest_first(&jobs[..pruned.len()]));
    reached(&history, unwritten[7].number).await;
    assert_eq!(history.health(), None);
    assert_eq!(all(&history).await, newest_first(kept));
}

#[tokio::test(flavor = "multi_thread")]
async fn while_the_disk_is_full_the_queue_is_bounded_and_a_stop_is_quick() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let history =
        History::start(Database::new(&path).limited_to(60), Arc::new(SystemThreads), READERS)
            .await
            .unwrap();
    let sender = history.sender();
    let sent = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&sent);
    let mut sending = JoinSet::new();
    sending.spawn(async move {
        loop {
            let number = count.load(Ordering::SeqCst) * 100;
            sender.send(batch(&plain(number + 1..=number + 100))).await?;
            count.fetch_add(1, Ordering::SeqCst);
        }
    });
    let full = || history.health().is_some() && history.sender().0.capacity() == 0;
    while !full() {
        assert!(sent.load(Ordering::SeqCst) < 1_000, "memory has a bound");
        tokio::task::yield_now().await;
    }
    assert!(sent.load(Ordering::SeqCst) >= QUEUE as u64);
    tokio::time::timeout(std::time::Duration::from_secs(60), history.stop()).await.unwrap();
    // Whoever waits is let go.
    let refused: Result<(), Error> = sending.join_next().await.unwrap().unwrap();
    assert!(matches!(refused, Err(Error::Stopped)), "{refused:?}");
    assert!(History::open(&path).await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_database_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    fs::write(&path, vec![b'x'; 8_192]).unwrap();
    let error = History::open(&path).await.err().unwrap();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    assert!(message.contains("let it join again"), "{message}");
    assert_eq!(fs::read(&path).unwrap(), vec![b'x'; 8_192]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_page_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    History::open(&path).await.unwrap().stop().await;
    let mut bytes = fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[4_096..length].fill(0xa5);
    fs::write(&path, bytes).unwrap();
    let error = History::open(&path).await.err().unwrap();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_to_rows_that_no_start_reads_is_refused_with_advice() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let history = History::open(&path).await.unwrap();
    send(&history, batch(&plain(1..=200))).await;
    reached(&history, 200).await;
    history.stop().await;
    let intact = fs::read(&path).unwrap();
    let mut refused = 0;
    for page in (0..intact.len()).step_by(4_096) {
        let mut bytes = intact.clone();
        // The head of the page, beyond the file's own: what is in it, and where.
        let head = if page == 0 { 100 } else { page };
        bytes[head..head + 8].fill(0xa5);
        fs::write(&path, bytes).unwrap();
        match History::open(&path).await {
            // A page that is not in use.
            Ok(history) => assert_eq!(all(&history).await.len(), 200),
            Err(error) => {
                assert!(matches!(error, Error::Damaged { .. }), "page at {page}: {error:?}");
                refused += 1;
            }
        }
    }
    assert!(refused > 20, "{refused} of {} pages", intact.len() / 4_096);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_of_a_newer_version_are_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    History::open(&path).await.unwrap().stop().await;
    let mut connection = raw(&path).await;
    sqlx::query(
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
         VALUES (999, 'later', 1, x'00', 1)",
    )
    .execute(&mut connection)
    .await
    .unwrap();
    connection.close().await.unwrap();
    let error = History::open(&path).await.err().unwrap();
    assert!(matches!(error, Error::Newer { version: 999, .. }), "{error:?}");
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_that_is_not_there_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("none/history.db");
    let error = History::open(&path).await.err().unwrap();
    assert!(matches!(error, Error::Open { .. }), "{error:?}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_gets_its_tables_and_settings() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    fs::write(&path, []).unwrap();
    let history = History::open(&path).await.unwrap();
    assert_eq!(*history.position().borrow(), 0);
    assert_eq!(all(&history).await, []);
    history.stop().await;
    let mut connection = raw(&path).await;
    let journal: String =
        sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&mut connection).await.unwrap();
    let vacuum: i64 =
        sqlx::query_scalar("PRAGMA auto_vacuum").fetch_one(&mut connection).await.unwrap();
    assert_eq!((journal.as_str(), vacuum), ("wal", 2));
}
