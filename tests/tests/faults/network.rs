//! Hosts that are alive and cut off.

use std::time::{Duration, Instant};

use baton_proto::{
    error::{ApiError, Reason},
    v1,
};
use baton_tests::{
    containers::{Containers, QUICK},
    load, traced, wait,
};
use tonic::Request;

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_and_a_follower_are_cut_off_one_after_the_other_and_no_job_notices() {
    let Some(mut scene) = Scene::begin(Containers::start(&QUICK).await).await else { return };
    let (job, _) = scene.long_job().await;
    let leader = scene.cluster.leader().await;
    scene.cluster.coordinator(leader).cut_off();
    scene.goes_on().await;
    assert_ne!(scene.cluster.leader().await, leader);
    scene.cluster.coordinator(leader).connect();
    scene.cluster.is_well().await;
    assert_eq!(scene.attempts(&job).await, 1);

    let (job, _) = scene.long_job().await;
    let [follower, _] = scene.cluster.followers().await;
    scene.cluster.coordinator(follower).cut_off();
    scene.goes_on().await;
    scene.goes_on().await;
    scene.cluster.coordinator(follower).connect();
    assert_eq!(scene.attempts(&job).await, 1);
    scene.adds_up(&[]).await;
}

/// What runs on a runner that nobody reaches is dead before it is started elsewhere.
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_cut_off_for_longer_than_its_leases_and_its_jobs_are_in_one_place_only() {
    let Some(mut scene) = Scene::begin(Containers::start(&QUICK).await).await else { return };
    let (job, runner) = scene.long_job().await;
    scene.cluster.runner(runner).cut_off();
    let other = scene.cluster.runs(&job, 2).await;
    assert_ne!(other, runner);
    scene.goes_on().await;
    scene.cluster.runner(runner).connect();
    assert_eq!(scene.attempts(&job).await, 2);
    scene.adds_up(&[]).await;
}

/// Leases that a majority would have to renew last as long as they are; these are longer than
/// the others are away.
#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_are_cut_off_and_calls_say_so_in_time_and_running_jobs_go_on() {
    let options = ["--heartbeat-interval", "1s", "--unreachable-after", "3s"];
    let Some(mut scene) = Scene::begin(Containers::start(&options).await).await else { return };
    let (job, _) = scene.long_job().await;
    let left = scene.cluster.leader().await;
    let followers = scene.cluster.followers().await;
    let connection = scene.cluster.connect_to(left).await;
    for follower in followers {
        scene.cluster.coordinator(follower).cut_off();
    }
    wait::until("the one that is left to lead no more", async || {
        let status = connection.cluster().status(v1::ClusterStatusRequest {}).await.ok()?;
        (status.into_inner().leader_id == 0).then_some(())
    })
    .await;
    let asked = Instant::now();
    let mut request = Request::new(v1::SubmitRequest {
        idempotency_key: "no-majority".to_owned(),
        spec: Some(traced::short()),
    });
    request.set_timeout(Duration::from_secs(3));
    let refused = connection.jobs().submit(request).await.unwrap_err();
    let reason = ApiError::from_status(&refused).map(|error| error.reason);
    assert_eq!(reason, Some(Reason::NoLeader), "{refused:?}");
    assert!(asked.elapsed() < Duration::from_secs(10), "{:?}", asked.elapsed());

    // It ends while there is no majority, and its output waits with its runner.
    scene.comes_to_its_end(&job).await;
    for follower in followers {
        scene.cluster.coordinator(follower).connect();
    }
    let record = load::ended(&scene.connection, &job).await;
    assert_eq!(record.attempts.len(), 1);
    scene.goes_on().await;
    scene.adds_up(&[]).await;
}
