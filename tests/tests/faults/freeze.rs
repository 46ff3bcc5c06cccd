//! Processes and hosts that stop for longer than a lease, and come back as if nothing had
//! been.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use baton_tests::{
    containers::{Containers, QUICK},
    traced::Traces,
    wait,
};

use crate::scene::Scene;

/// How long a host may take to kill what outlived its lease while it was frozen. The job
/// itself would go on for longer.
const TO_ITSELF: Duration = Duration::from_secs(5);

fn now() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

/// The shim goes on without its runner: it kills the job before its lease is given away, so
/// that the job is never in two places.
#[tokio::test(flavor = "multi_thread")]
async fn a_runner_is_stopped_for_longer_than_its_leases_and_its_jobs_are_in_one_place_only() {
    let Some(mut scene) = Scene::begin(Containers::start(&QUICK).await).await else { return };
    let (job, runner) = scene.long_job().await;
    scene.cluster.signal_runner(runner, "STOP");
    let other = scene.cluster.runs(&job, 2).await;
    assert_ne!(other, runner);
    scene.goes_on().await;
    scene.cluster.signal_runner(runner, "CONT");
    assert_eq!(scene.attempts(&job).await, 2);
    scene.adds_up(&[]).await;
}

/// Nobody can keep a job that is frozen with its shim from a few steps when both thaw, since
/// either may be given the processor first. What is certain: none of its steps are taken
/// between, it is killed at once and does not come to its end, and nothing that it writes
/// then becomes output.
#[tokio::test(flavor = "multi_thread")]
async fn a_runners_host_is_frozen_for_longer_than_its_leases_and_what_it_ran_dies_when_it_thaws() {
    let Some(mut scene) = Scene::begin(Containers::start(&QUICK).await).await else { return };
    let (job, runner) = scene.long_job().await;
    scene.cluster.runner(runner).freeze();
    let frozen = now();
    let other = scene.cluster.runs(&job, 2).await;
    assert_ne!(other, runner);
    scene.goes_on().await;
    let thaw = now();
    scene.cluster.runner(runner).thaw();
    scene.cluster.is_well().await;
    assert_eq!(scene.attempts(&job).await, 2);

    let traces = Traces::read(&scene.cluster.trace());
    let first = traces.of(&job).unwrap().values().next().unwrap();
    assert!(!first.has_ended(), "killed, though it had more to do");
    assert!(!first.was_at_work(&(frozen..thaw)), "frozen: {first:?}");
    let until = thaw + TO_ITSELF.as_nanos();
    assert!(!first.was_at_work(&(until..u128::MAX)), "killed at once: {first:?}");
    let thaws = [thaw..until];
    scene.adds_up(&thaws).await;
}

/// A leader that was stopped finds another one in its place, and has acknowledged nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_is_stopped_until_another_leads_and_goes_on_as_a_follower() {
    let Some(mut scene) = Scene::begin(Containers::start(&QUICK).await).await else { return };
    let (job, _) = scene.long_job().await;
    let leader = scene.cluster.leader().await;
    scene.cluster.coordinator(leader).signal("STOP");
    scene.goes_on().await;
    let next = wait::within("another leader", scene.cluster.leader()).await;
    assert_ne!(next, leader);
    scene.cluster.coordinator(leader).signal("CONT");
    scene.goes_on().await;
    assert_eq!(scene.attempts(&job).await, 1);
    scene.adds_up(&[]).await;
}
