//! Copies for other members, and copies of theirs that take the place of what is here.

use std::{fs, path::Path};

use baton_state::{JobId, Timestamp};
use sqlx::{ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use super::fixtures::{Finished, all, batch, events, newest_first, plain, reached, send, totals};
use crate::history::{Batch, Error, History, Retention};

async fn open(folder: &TempDir) -> History {
    History::open(folder.path().join("history.db")).await.unwrap()
}

/// A history of these jobs.
async fn history_of(jobs: &[Finished]) -> (TempDir, History) {
    let folder = tempfile::tempdir().unwrap();
    let history = open(&folder).await;
    if let Some(last) = jobs.last() {
        send(&history, batch(jobs)).await;
        reached(&history, last.number).await;
    }
    (folder, history)
}

async fn has_exactly(history: &History, jobs: &[Finished]) {
    assert_eq!(all(history).await, newest_first(jobs));
    let expected: Vec<_> = jobs.iter().flat_map(Finished::events).collect();
    assert_eq!(events(history).await, expected);
    let count = i64::try_from(jobs.len()).unwrap();
    assert_eq!(totals(history).await, (count, count * 100));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_a_whole_history() {
    let mut jobs = plain(1..=50);
    jobs[7].keys = vec!["key".to_owned()];
    jobs[7].source = Some("d1".to_owned());
    let (folder, history) = history_of(&jobs).await;
    let path = folder.path().join("copy");
    assert_eq!(history.copy_to(&path).await.unwrap(), 50);
    // Again in the same place.
    assert_eq!(history.copy_to(&path).await.unwrap(), 50);
    let copied = History::open(&path).await.unwrap();
    assert_eq!(*copied.position().borrow(), 50);
    has_exactly(&copied, &jobs).await;
    assert_eq!(copied.job(jobs[7].id()).await.unwrap(), Some(jobs[7].job()));
    assert_eq!(copied.request("key").await.unwrap().unwrap().1, jobs[7].id());
    assert!(copied.source_in_use("d1").await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_as_of_one_moment_while_events_come() {
    let jobs = plain(1..=400);
    let (folder, history) = history_of(&jobs[..50]).await;
    let mut copies = Vec::new();
    for (number, chunk) in jobs[50..].chunks(10).enumerate() {
        send(&history, batch(chunk)).await;
        if number % 10 == 5 {
            let path = folder.path().join(format!("copy {number}"));
            let before = *history.position().borrow();
            let position = history.copy_to(&path).await.unwrap();
            assert!(position >= before, "{position} is before {before}");
            copies.push((path, position));
        }
    }
    for (path, position) in copies {
        let copied = History::open(&path).await.unwrap();
        has_exactly(&copied, &jobs[..usize::try_from(position).unwrap()]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_cannot_be_written_says_where() {
    let (folder, history) = history_of(&plain(1..=1)).await;
    let error = history.copy_to(folder.path().join("none/copy")).await.unwrap_err();
    assert!(error.to_string().contains("unable to open"), "{error}");
    history.stop().await;
    let stopped = history.copy_to(folder.path().join("copy")).await;
    assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_takes_the_place_of_everything() {
    let mut jobs = plain(1..=60);
    jobs[55].keys = vec!["key".to_owned()];
    let (folder, leader) = history_of(&jobs).await;
    let copy = folder.path().join("copy");
    leader.copy_to(&copy).await.unwrap();
    for before in [0, 20] {
        let (folder, history) = history_of(&jobs[..before]).await;
        assert_eq!(history.replace_with(&copy).await.unwrap(), 60);
        assert_eq!(*history.position().borrow(), 60);
        has_exactly(&history, &jobs).await;
        assert_eq!(history.request("key").await.unwrap().unwrap().1, jobs[55].id());
        // The same again.
        assert_eq!(history.replace_with(&copy).await.unwrap(), 60);
        history.stop().await;
        drop(history);
        let history = open(&folder).await;
        assert_eq!(*history.position().borrow(), 60);
        has_exactly(&history, &jobs).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_go_on_after_a_copy_was_taken_over() {
    let jobs = plain(1..=90);
    let (folder, leader) = history_of(&jobs[..60]).await;
    let copy = folder.path().join("copy");
    leader.copy_to(&copy).await.unwrap();
    let (_folder, history) = history_of(&jobs[..20]).await;
    history.replace_with(&copy).await.unwrap();
    // The snapshot of the state was older than the history's copy.
    for chunk in jobs[40..].chunks(7) {
        send(&history, batch(chunk)).await;
    }
    reached(&history, 90).await;
    has_exactly(&history, &jobs).await;
    // And it can be given to others.
    let copy = folder.path().join("second");
    assert_eq!(history.copy_to(&copy).await.unwrap(), 90);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_copy_has_pruned_does_not_come_back() {
    let jobs = plain(1..=61);
    let (folder, leader) = history_of(&jobs[..60]).await;
    let retention = Retention { max_age: Some(0), oldest: 30, batch: 30 };
    assert_eq!(leader.prune(Timestamp(0), retention).await.unwrap().len(), 30);
    let copy = folder.path().join("copy");
    leader.copy_to(&copy).await.unwrap();
    let (_folder, history) = history_of(&jobs[..20]).await;
    history.replace_with(&copy).await.unwrap();
    // They were on their way when the copy was taken over.
    send(&history, batch(&jobs)).await;
    reached(&history, 61).await;
    assert_eq!(all(&history).await, newest_first(&jobs[30..]));
    assert_eq!(totals(&history).await, (31, 3_100));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_to_be_written_is_taken_once() {
    let jobs = plain(1..=300);
    let (folder, leader) = history_of(&jobs[..200]).await;
    let copy = folder.path().join("copy");
    leader.copy_to(&copy).await.unwrap();
    let (_folder, history) = history_of(&[]).await;
    // Some of these may be written before, some after.
    let sending = async {
        for chunk in jobs.chunks(3) {
            send(&history, batch(chunk)).await;
        }
    };
    let (replaced, ()) = tokio::join!(history.replace_with(&copy), sending);
    assert!(replaced.unwrap() >= 200);
    reached(&history, 300).await;
    has_exactly(&history, &jobs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_copy_changes_nothing() {
    let jobs = plain(1..=30);
    let (folder, leader) = history_of(&jobs[..10]).await;
    let copy = folder.path().join("copy");
    leader.copy_to(&copy).await.unwrap();
    let (_folder, history) = history_of(&jobs).await;
    assert_eq!(history.replace_with(&copy).await.unwrap(), 30);
    has_exactly(&history, &jobs).await;
    send(&history, Batch { through: 31, events: Vec::new() }).await;
    reached(&history, 31).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_sees_the_old_or_the_new() {
    let jobs = plain(1..=900);
    let (folder, leader) = history_of(&jobs).await;
    let copy = folder.path().join("copy");
    leader.copy_to(&copy).await.unwrap();
    let (_folder, history) = history_of(&jobs[..300]).await;
    let (old, new) = (newest_first(&jobs[..300]), newest_first(&jobs));
    let reading = async {
        let mut seen = Vec::<JobId>::new();
        while seen != new {
            seen = all(&history).await;
            assert!(seen == old || seen == new, "{} jobs", seen.len());
        }
    };
    let (replaced, ()) = tokio::join!(history.replace_with(&copy), reading);
    assert_eq!(replaced.unwrap(), 900);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_at_any_moment_leaves_the_old_or_the_new() {
    let jobs = plain(1..=200);
    let (folder, leader) = history_of(&jobs).await;
    let copy = folder.path().join("copy");
    leader.copy_to(&copy).await.unwrap();
    let (folder, history) = history_of(&jobs[..50]).await;
    history.make_durable().await.unwrap();
    let main = fs::read(folder.path().join("history.db")).unwrap();
    history.replace_with(&copy).await.unwrap();
    let log = fs::read(folder.path().join("history.db-wal")).unwrap();
    let mut kept = [0, 0];
    for part in 0..=20 {
        let crashed = tempfile::tempdir().unwrap();
        fs::write(crashed.path().join("history.db"), &main).unwrap();
        let end = log.len() * part / 20;
        fs::write(crashed.path().join("history.db-wal"), &log[..end]).unwrap();
        let history = open(&crashed).await;
        let position = usize::try_from(*history.position().borrow()).unwrap();
        assert!([50, 200].contains(&position), "{position}");
        has_exactly(&history, &jobs[..position]).await;
        kept[usize::from(position == 200)] += 1;
        // It can be done again.
        assert_eq!(history.replace_with(&copy).await.unwrap(), 200);
        has_exactly(&history, &jobs).await;
    }
    assert!(kept[0] > 5 && kept[1] > 0, "{kept:?}");
}

async fn refused(copy: &Path) -> String {
    let jobs = plain(1..=5);
    let (_folder, history) = history_of(&jobs).await;
    let error = history.replace_with(copy).await.unwrap_err();
    assert!(matches!(error, Error::UnusableCopy { .. }), "{error:?}");
    has_exactly(&history, &jobs).await;
    send(&history, Batch { through: 6, events: Vec::new() }).await;
    reached(&history, 6).await;
    error.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_copy_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("copy");
    let message = refused(&path).await;
    assert!(message.contains(path.to_str().unwrap()), "{message}");
    for content in [vec![b'x'; 8_192], Vec::new()] {
        fs::write(&path, content).unwrap();
        refused(&path).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_is_refused() {
    let (folder, leader) = history_of(&plain(1..=100)).await;
    let copy = folder.path().join("copy");
    leader.copy_to(&copy).await.unwrap();
    let mut bytes = fs::read(&copy).unwrap();
    let length = bytes.len();
    bytes[8_192..length].fill(0xa5);
    fs::write(&copy, bytes).unwrap();
    refused(&copy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_another_version_is_refused() {
    let (folder, leader) = history_of(&plain(1..=100)).await;
    let copy = folder.path().join("copy");
    leader.copy_to(&copy).await.unwrap();
    let mut connection = SqliteConnectOptions::new().filename(&copy).connect().await.unwrap();
    sqlx::query("UPDATE _sqlx_migrations SET version = 999 WHERE version = 2")
        .execute(&mut connection)
        .await
        .unwrap();
    connection.close().await.unwrap();
    let message = refused(&copy).await;
    assert!(message.contains("version 999"), "{message}");
    assert!(message.contains("same version of Baton"), "{message}");
}
