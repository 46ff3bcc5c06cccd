//! Coordinators and runners that are restarted on purpose.

use baton_tests::containers::{Containers, QUICK};

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn all_hosts_are_restarted_one_after_the_other_and_nothing_is_lost() {
    let Some(mut scene) = Scene::begin(Containers::start(&QUICK).await).await else { return };
    for number in 1..=3 {
        let (job, _) = scene.long_job().await;
        scene.cluster.coordinator(number).signal("TERM");
        assert_eq!(scene.cluster.ended(number).await, 0, "coordinator {number}");
        scene.goes_on().await;
        scene.cluster.coordinator(number).start_again();
        scene.cluster.is_well().await;
        assert_eq!(scene.attempts(&job).await, 1, "coordinator {number}");
    }
    for _ in 0..2 {
        let (job, runner) = scene.long_job().await;
        scene.cluster.signal_runner(runner, "TERM");
        scene.goes_on().await;
        scene.cluster.is_well().await;
        assert_eq!(scene.attempts(&job).await, 1, "runner {runner}");
    }
    scene.adds_up(&[]).await;
}
