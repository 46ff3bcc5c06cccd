//! Bits that flip in values, which SQLite does not notice.

use std::path::Path;

use baton_state::{JobId, Timestamp};
use sqlx::{AssertSqlSafe, ConnectOptions as _, Connection as _, sqlite::SqliteConnectOptions};
use tempfile::TempDir;

use super::fixtures::{all, batch, newest_first, plain, reached, send};
use crate::history::{Error, History, Retention, adopt};

/// More than enough for anything here to happen.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A closed history of ten jobs, in which a statement has done some damage.
async fn damaged_by(statement: &str) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let history = History::open(&path).await.unwrap();
    let mut jobs = plain(1..=10);
    jobs[4].keys = vec!["key".to_owned()];
    jobs[4].labels = ["gpu".to_owned()].into();
    send(&history, batch(&jobs)).await;
    reached(&history, 10).await;
    history.stop().await;
    execute(&path, statement).await;
    folder
}

async fn execute(path: &Path, statement: &str) {
    let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
    sqlx::raw_sql(AssertSqlSafe(statement.to_owned())).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn open(folder: &TempDir) -> History {
    History::open(folder.path().join("history.db")).await.unwrap()
}

/// Waits until the history says that it is damaged.
async fn damage(history: &History) -> String {
    let told = async {
        loop {
            if let Some(damage) = history.damage() {
                return damage;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, told).await.expect("damage is found")
}

fn fifth() -> JobId {
    plain(5..=5)[0].id()
}

/// Damage to what the fifth job is found by and what is said of it.
fn each_damage() -> Vec<String> {
    let id = fifth();
    [
        format!("UPDATE job_records SET record = replace(record, 'job 5', 'job 4') WHERE job = '{id}'"),
        format!(r#"UPDATE job_records SET record = replace(record, '"name"', '"nale"') WHERE job = '{id}'"#),
        format!("UPDATE job_records SET record = CAST(record AS BLOB) || x'ff' WHERE job = '{id}'"),
        format!("UPDATE job_records SET job = 'x' WHERE job = '{id}'"),
        format!("UPDATE job_records SET checksum = checksum + 1 WHERE job = '{id}'"),
        format!("UPDATE job_records SET checksum = NULL WHERE job = '{id}'"),
        format!("DELETE FROM job_records WHERE job = '{id}'"),
        format!("UPDATE jobs SET project = 'defaulu' WHERE id = '{id}'"),
        format!("UPDATE jobs SET finished_at = 0 WHERE id = '{id}'"),
        format!("DELETE FROM jobs WHERE id = '{id}'"),
        format!("UPDATE job_runners SET runner = 'r-2' WHERE job = '{id}' AND runner = 'r-1'"),
        format!("UPDATE job_labels SET label = 'gpt' WHERE job = '{id}'"),
        "UPDATE requests SET idempotency_key = 'kex'".to_owned(),
        "UPDATE requests SET digest = x'00'".to_owned(),
        "UPDATE events SET at = at + 1 WHERE entry = 5".to_owned(),
        "UPDATE events SET payload = NULL WHERE entry = 5".to_owned(),
    ]
    .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_that_has_become_another_is_found_and_is_in_no_copy() {
    for statement in each_damage() {
        let folder = damaged_by(&statement).await;
        let history = open(&folder).await;
        let told = damage(&history).await;
        assert!(told.contains("is damaged") && told.contains("join again"), "{statement}: {told}");
        let copy = folder.path().join("copy");
        let copied = history.copy_to(&copy).await;
        assert!(matches!(copied, Err(Error::DamagedRow { .. })), "{statement}: {copied:?}");
        assert!(!copy.exists(), "{statement}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_was_damaged_on_its_way_is_not_taken() {
    for statement in each_damage() {
        let from = damaged_by(&statement).await;
        let folder = tempfile::tempdir().unwrap();
        let history = open(&folder).await;
        let copy = from.path().join("history.db");
        let taken = history.replace_with(&copy).await;
        assert!(matches!(taken, Err(Error::UnusableCopy { .. })), "{statement}: {taken:?}");
        assert_eq!(all(&history).await, []);
        let adopted = adopt(&copy, 10, 20).await;
        assert!(matches!(adopted, Err(Error::DamagedRow { .. })), "{statement}: {adopted:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_shows_the_others_and_says_which_job_is_unreadable() {
    let folder =
        damaged_by("UPDATE job_records SET record = CAST('x' AS BLOB) WHERE rowid = 5").await;
    let history = open(&folder).await;
    let listed = history.list(&Default::default(), JobId::MAX, 1_000).await.unwrap();
    assert_eq!(listed.unreadable, [fifth().to_string()]);
    let others: Vec<_> = listed.jobs.iter().map(|job| job.id).collect();
    let expected: Vec<_> =
        newest_first(&plain(1..=10)).into_iter().filter(|id| *id != fifth()).collect();
    assert_eq!(others, expected);
    let error = history.job(fifth()).await.unwrap_err();
    assert!(error.to_string().contains(&format!("job {}", fifth())), "{error}");
    assert!(history.contains(fifth()).await.unwrap(), "its files stay");
    let damage = history.damage().unwrap();
    assert!(damage.contains(&format!("job {}", fifth())), "{damage}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_record_that_is_not_found_is_no_job_that_never_was() {
    let folder = damaged_by("DELETE FROM job_records WHERE rowid = 5").await;
    let history = open(&folder).await;
    let listed = history.list(&Default::default(), JobId::MAX, 1_000).await.unwrap();
    assert_eq!((listed.jobs.len(), listed.unreadable), (9, vec![fifth().to_string()]));
    assert!(history.job(fifth()).await.is_err());
    assert!(history.contains(fifth()).await.unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_request_is_damaged_is_not_taken_for_another_request() {
    let folder =
        damaged_by("UPDATE requests SET digest = CAST(replace(digest, x'03', x'02') AS BLOB)")
            .await;
    let history = open(&folder).await;
    let error = history.request("key").await.unwrap_err();
    assert!(matches!(error, Error::DamagedRow { .. }), "{error:?}");
    assert_eq!(history.request("other").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_takes_no_damaged_time_for_true_and_removes_what_cannot_be_read() {
    let retention = Retention { max_age: Some(0), oldest: 0, batch: 100 };
    let folder = damaged_by("UPDATE jobs SET finished_at = 0").await;
    let history = open(&folder).await;
    assert!(history.prune(Timestamp(500), retention).await.is_err());
    assert_eq!(all(&history).await.len(), 10);
    let folder = damaged_by("UPDATE job_records SET record = '{}' WHERE rowid = 5").await;
    let history = open(&folder).await;
    assert_eq!(history.prune(Timestamp(10_000), retention).await.unwrap().len(), 10);
    assert_eq!(all(&history).await, []);
    history.copy_to(folder.path().join("copy")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn how_far_it_goes_is_not_believed_when_it_is_damaged() {
    let folder = damaged_by("UPDATE progress SET through = 26").await;
    let error = History::open(folder.path().join("history.db")).await.err().unwrap();
    assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_rows_of_an_older_version_get_their_checksums() {
    let tables = ["jobs", "job_records", "requests", "events", "progress"];
    let without = tables.map(|table| format!("UPDATE {table} SET checksum = NULL;")).concat();
    let folder = damaged_by(&without).await;
    let history = open(&folder).await;
    assert_eq!(all(&history).await, newest_first(&plain(1..=10)));
    history.copy_to(folder.path().join("copy")).await.unwrap();
    assert_eq!(history.damage(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_version_that_ended_half_way_gets_the_rest() {
    let folder = damaged_by(
        "UPDATE progress SET checksum = NULL; UPDATE events SET checksum = NULL WHERE entry > 3;",
    )
    .await;
    let history = open(&folder).await;
    history.copy_to(folder.path().join("copy")).await.unwrap();
}
