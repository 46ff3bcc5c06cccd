//! SIGKILL.

use baton_tests::containers::{Containers, QUICK};

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_a_runner_and_a_runners_host_are_killed_and_everything_adds_up() {
    let Some(mut scene) = Scene::begin(Containers::start(&QUICK).await).await else { return };
    let (job, _) = scene.long_job().await;
    let leader = scene.cluster.leader().await;
    scene.cluster.coordinator(leader).kill();
    scene.goes_on().await;
    scene.cluster.coordinator(leader).start_again();
    scene.cluster.is_well().await;
    assert_eq!(scene.attempts(&job).await, 1, "no job notices that a leader is killed");

    let (job, runner) = scene.long_job().await;
    scene.cluster.signal_runner(runner, "KILL");
    scene.goes_on().await;
    assert_eq!(scene.attempts(&job).await, 1, "nor that a runner is killed and comes back");

    let (job, runner) = scene.long_job().await;
    scene.cluster.runner(runner).kill();
    scene.cluster.runs(&job, 2).await;
    scene.goes_on().await;
    scene.cluster.runner(runner).start_again();
    assert_eq!(scene.attempts(&job).await, 2, "with its host a job is lost, and runs elsewhere");
    scene.adds_up(&[]).await;
}
