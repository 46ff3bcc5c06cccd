//! Two of three coordinators that cannot be reached.

use std::time::{Duration, Instant};

use baton_proto::{
    error::{ApiError, Reason},
    v1,
};
use baton_tests::{
    containers::{Containers, PATIENT},
    traced, wait,
};
use tonic::Request;

use crate::scene::Scene;

/// Nobody renews a lease meanwhile, so it has to last for as long.
#[tokio::test(flavor = "multi_thread")]
async fn two_of_three_are_cut_off_and_calls_say_so_in_time_and_running_jobs_go_on() {
    let Some(mut scene) = Scene::begin(Containers::start(&PATIENT).await).await else { return };
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
    assert_eq!(scene.attempts(&job).await, 1);
    scene.goes_on().await;
    scene.adds_up(&[]).await;
}
