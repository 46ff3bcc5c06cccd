//! History databases that somebody else has, or that are slow.

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

/// Keeps a coordinator from writing its history, until this is rolled back or dropped.
async fn lock(cluster: &Containers, coordinator: usize) -> SqliteConnection {
    let mut database = open(cluster, coordinator).await;
    database.execute("BEGIN EXCLUSIVE").await.unwrap();
    database
}

async fn until_told(cluster: &Containers, coordinator: usize, told: &str) {
    wait::until(told, async || cluster.coordinator(coordinator).log().contains(told).then_some(()))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn histories_are_locked_and_then_slow_and_have_every_job_afterwards() {
    let Some(mut scene) = Scene::begin(Containers::start(&PATIENT).await).await else { return };
    let (job, _) = scene.long_job().await;
    let leader = scene.cluster.leader().await;
    let others = scene.cluster.followers().await;
    let mut database = lock(&scene.cluster, leader).await;
    let before = jobs_in(&mut database).await;
    wait::until("one to lead whose history can be written", async || {
        (scene.cluster.leader().await != leader).then_some(())
    })
    .await;
    let told = "the history cannot be written: another coordinator leads";
    until_told(&scene.cluster, leader, told).await;
    scene.goes_on().await;
    assert_eq!(scene.attempts(&job).await, 1);
    assert_eq!(jobs_in(&mut database).await, before);

    let (job, _) = scene.long_job().await;
    let mut locked = vec![database];
    for other in others {
        locked.push(lock(&scene.cluster, other).await);
    }
    for other in others {
        until_told(&scene.cluster, other, "cannot write the history").await;
    }
    let request =
        v1::SubmitRequest { idempotency_key: "locked".to_owned(), spec: Some(traced::short()) };
    let refused = scene.connection.jobs().submit(request).await.unwrap_err();
    let refused = ApiError::from_status(&refused).unwrap();
    assert_eq!(refused.reason, Reason::HistoryUnavailable, "{refused:?}");
    assert!(refused.message.contains("history cannot be written"), "{refused:?}");
    // What was accepted goes on to its end.
    assert_eq!(scene.attempts(&job).await, 1);
    for database in &mut locked {
        database.execute("ROLLBACK").await.unwrap();
    }
    for coordinator in 1..=3 {
        until_told(&scene.cluster, coordinator, "the history can be written again").await;
    }
    scene.goes_on().await;

    let leader = scene.cluster.leader().await;
    let mut database = open(&scene.cluster, leader).await;
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
