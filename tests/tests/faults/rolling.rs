//! Coordinators and runners that are restarted on purpose.

use baton_tests::containers::{Containers, PATIENT};

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn coordinators_and_runners_are_restarted_one_after_the_other_and_no_job_notices() {
    let Some(mut scene) = Scene::begin(Containers::start(&PATIENT).await).await else { return };
    for number in 1..=3 {
        scene.unharmed_long_job().await;
        scene.cluster.coordinator(number).signal("TERM");
        assert_eq!(scene.cluster.ended(number).await, 0, "coordinator {number}");
        scene.goes_on().await;
        scene.cluster.coordinator(number).start_again();
        scene.cluster.is_well().await;
    }
    for number in 1..=2 {
        scene.unharmed_long_job().await;
        scene.cluster.signal_runner(number, "TERM");
        scene.goes_on().await;
        scene.cluster.is_well().await;
    }
    scene.adds_up(&[]).await;
}
