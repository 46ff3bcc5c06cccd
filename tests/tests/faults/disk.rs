//! Disks that are full, and disks that are lost.

use baton_tests::{
    containers::{Containers, PATIENT},
    fleet::text,
    members, wait,
};

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread")]
async fn disks_of_a_follower_and_of_the_leader_are_full_and_the_others_go_on() {
    let options = [&PATIENT[..], &["--min-free", "4MiB"]].concat();
    let cluster = Containers::with_disks(&options, "96m").await;
    let Some(mut scene) = Scene::begin(cluster).await else { return };
    let [follower, _] = scene.cluster.followers().await;
    let leader = scene.cluster.leader().await;
    for number in [follower, leader] {
        scene.unharmed_long_job().await;
        scene.cluster.fill_disk(number);
        wait::until("one to lead that has room", async || {
            (scene.cluster.leader().await != number).then_some(())
        })
        .await;
        scene.goes_on().await;
        // It forgets nothing that it acknowledged: it stops where it can keep no more.
        assert_eq!(scene.fills_the_log_until_ended(number).await, 1);
        let log = scene.cluster.coordinator(number).log();
        for told in ["the coordinator stopped by itself: ", "check the disk and its free space"] {
            assert!(log.contains(told), "{told}: {log}");
        }
        scene.goes_on().await;
        scene.cluster.free_disk(number);
        scene.cluster.coordinator(number).start_again();
        scene.cluster.is_well().await;
    }
    scene.adds_up(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_without_its_disk_is_refused_and_joins_again_while_all_goes_on() {
    let Some(mut scene) = Scene::begin(Containers::start(&PATIENT).await).await else { return };
    scene.unharmed_long_job().await;
    // The first one began the cluster and has nobody to join.
    let lost = *scene.cluster.followers().await.iter().find(|number| **number != 1).unwrap();
    let log = |scene: &Scene| scene.cluster.coordinator(lost).log();
    scene.cluster.coordinator(lost).kill();
    std::fs::remove_dir_all(scene.cluster.data(lost).join("raft")).unwrap();
    scene.cluster.coordinator(lost).start_again();
    assert_ne!(scene.cluster.ended(lost).await, 0, "it has forgotten its votes");
    assert!(log(&scene).contains("entries are missing"), "{}", log(&scene));
    scene.goes_on().await;

    std::fs::remove_dir_all(scene.cluster.data(lost)).unwrap();
    scene.cluster.coordinator(lost).start_again();
    assert_ne!(scene.cluster.ended(lost).await, 0, "another one has its number");
    let told = format!("if its data was lost, remove it first: baton cluster remove {lost}");
    assert!(log(&scene).contains(&told), "{}", log(&scene));
    scene.goes_on().await;

    let removed = scene.cluster.baton(&["cluster", "remove", &lost.to_string()]).await;
    assert_eq!(text(&removed.stdout), format!("node {lost} is removed\n"), "{removed:?}");
    scene.cluster.join_again(lost);
    scene.goes_on().await;
    scene.cluster.is_well().await;
    let members = members::members(&scene.cluster.endpoint()).await.members;
    let numbers: Vec<_> = members.iter().map(|m| m.member.as_ref().unwrap().node_id).collect();
    assert!(numbers.contains(&4), "as somebody else: {numbers:?}");
    scene.adds_up(&[]).await;
}
