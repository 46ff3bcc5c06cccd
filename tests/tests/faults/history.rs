//! A history database that somebody else has, or that is slow.

use std::time::Duration;

use baton_proto::{
    error::{ApiError, Reason},
    v1,
};
use baton_tests::{
    containers::{Containers, PATIENT},
    traced, wait,
};
use sqlx::{Connection as _, Executor as _, SqliteConnection, sqlite::SqliteConnectOptions};

use crate::scene::Scene;

/// The database of a coordinator, opened beside it.
async fn open(cluster: &Containers, coordinator: usize) -> SqliteConnection {
    let options = SqliteConnectOptions::new()
        .filename(cluster.data(coordinator).join("history.db"))
        .busy_timeout(wait::LIMIT);
    SqliteConnection::connect_with(&options).await.unwrap()
}

async fn jobs_in(database: &mut SqliteConnection) -> usize {
    let count: i64 = sqlx::query_scalar("SELECT count(*) FROM jobs WHERE state = 'succeeded'")
        .fetch_one(database)
        .await
        .unwrap();
    usize::try_from(count).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leaders_history_is_locked_and_then_slow_and_has_every_job_afterwards() {
    let Some(mut scene) = Scene::begin(Containers::start(&PATIENT).await).await else { return };
    let (job, _) = scene.long_job().await;
    let leader = scene.cluster.leader().await;
    let mut database = open(&scene.cluster, leader).await;
    database.execute("BEGIN EXCLUSIVE").await.unwrap();
    let before = jobs_in(&mut database).await;
    let log = |told: &str| scene.cluster.coordinator(leader).log().contains(told);
    wait::until("the coordinator to notice", async || {
        log("cannot write the history").then_some(())
    })
    .await;
    let request =
        v1::SubmitRequest { idempotency_key: "locked".to_owned(), spec: Some(traced::short()) };
    let refused = scene.connection.jobs().submit(request).await.unwrap_err();
    let refused = ApiError::from_status(&refused).unwrap();
    assert_eq!(refused.reason, Reason::DiskFull, "{refused:?}");
    assert!(refused.message.contains("history cannot be written"), "{refused:?}");
    // What was accepted goes on to its end.
    assert_eq!(scene.attempts(&job).await, 1);
    assert_eq!(jobs_in(&mut database).await, before);
    database.execute("ROLLBACK").await.unwrap();
    wait::until("the history to be written again", async || {
        log("the history can be written again").then_some(())
    })
    .await;

    for _ in 0..10 {
        database.execute("BEGIN EXCLUSIVE").await.unwrap();
        tokio::time::sleep(Duration::from_millis(400)).await;
        database.execute("ROLLBACK").await.unwrap();
    }
    scene.goes_on().await;
    let (cluster, accepted) = scene.adds_up(&[]).await;
    for coordinator in 1..=3 {
        let mut database = open(&cluster, coordinator).await;
        wait::until("every job to be in the history", async || {
            (jobs_in(&mut database).await == accepted).then_some(())
        })
        .await;
    }
}
