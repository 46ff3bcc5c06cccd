//! Coordinators that are gone for a while, one at a time: no job notices.

use baton_tests::containers::{Containers, PATIENT};

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_is_killed_stopped_and_cut_off_and_a_follower_too_and_no_job_notices() {
    let Some(mut scene) = Scene::begin(Containers::start(&PATIENT).await).await else { return };
    a_leader_is_killed(&mut scene).await;
    a_leader_is_stopped(&mut scene).await;
    a_leader_is_cut_off(&mut scene).await;
    a_follower_is_cut_off(&mut scene).await;
    a_runner_is_killed_and_comes_back(&mut scene).await;
    scene.adds_up(&[]).await;
}

async fn a_leader_is_killed(scene: &mut Scene) {
    scene.unharmed_long_job().await;
    let leader = scene.cluster.leader().await;
    scene.cluster.coordinator(leader).kill();
    scene.goes_on().await;
    scene.cluster.coordinator(leader).start_again();
    scene.cluster.is_well().await;
}

/// It comes back as if nothing had been, finds another in its place, and has acknowledged
/// nothing.
async fn a_leader_is_stopped(scene: &mut Scene) {
    scene.unharmed_long_job().await;
    let leader = scene.cluster.leader().await;
    scene.cluster.coordinator(leader).signal("STOP");
    scene.goes_on().await;
    assert_ne!(scene.cluster.leader().await, leader);
    scene.cluster.coordinator(leader).signal("CONT");
    scene.cluster.is_well().await;
}

async fn a_leader_is_cut_off(scene: &mut Scene) {
    scene.unharmed_long_job().await;
    let leader = scene.cluster.leader().await;
    scene.cluster.coordinator(leader).cut_off();
    scene.goes_on().await;
    assert_ne!(scene.cluster.leader().await, leader);
    scene.cluster.coordinator(leader).connect();
    scene.cluster.is_well().await;
}

async fn a_follower_is_cut_off(scene: &mut Scene) {
    scene.unharmed_long_job().await;
    let [follower, _] = scene.cluster.followers().await;
    scene.cluster.coordinator(follower).cut_off();
    scene.goes_on().await;
    scene.goes_on().await;
    scene.cluster.coordinator(follower).connect();
    scene.cluster.is_well().await;
}

/// Its jobs go on without it.
async fn a_runner_is_killed_and_comes_back(scene: &mut Scene) {
    let runner = scene.unharmed_long_job().await;
    scene.cluster.signal_runner(runner, "KILL");
    scene.goes_on().await;
    scene.cluster.is_well().await;
}
