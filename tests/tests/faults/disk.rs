//! Disks that are full, and disks that are lost.

use baton_tests::{
    containers::{Containers, QUICK},
    fleet::text,
    members, wait,
};

use crate::scene::Scene;

/// Waits until a coordinator whose disk is full has ended, and said what to do.
async fn stops(cluster: &Containers, number: usize) {
    assert_ne!(cluster.ended(number).await, 0);
    let log = cluster.coordinator(number).log();
    println!("{}", &log[log.len().saturating_sub(3000)..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn disks_of_a_follower_and_of_the_leader_are_full_and_the_others_go_on() {
    let options = [&QUICK[..], &["--min-free", "4MiB"]].concat();
    let cluster = Containers::with_disks(&options, "64m").await;
    let Some(mut scene) = Scene::begin(cluster).await else { return };
    let [follower, _] = scene.cluster.followers().await;
    let leader = scene.cluster.leader().await;
    for number in [follower, leader] {
        let (job, _) = scene.long_job().await;
        scene.cluster.fill_disk(number);
        stops(&scene.cluster, number).await;
        scene.goes_on().await;
        scene.cluster.free_disk(number);
        scene.cluster.coordinator(number).start_again();
        scene.cluster.is_well().await;
        assert_eq!(scene.attempts(&job).await, 1);
    }
    scene.adds_up(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coordinator_without_its_disk_is_refused_and_joins_again_while_all_goes_on() {
    let Some(mut scene) = Scene::begin(Containers::start(&QUICK).await).await else { return };
    let (job, _) = scene.long_job().await;
    // The first one has nobody to join: it began the cluster.
    let lost = *scene.cluster.followers().await.iter().find(|number| **number != 1).unwrap();
    scene.cluster.coordinator(lost).kill();
    std::fs::remove_dir_all(scene.cluster.data(lost).join("raft")).unwrap();
    scene.cluster.coordinator(lost).start_again();
    assert_ne!(scene.cluster.ended(lost).await, 0, "a folder whose log is gone");
    println!("{}", scene.cluster.coordinator(lost).log());
    scene.goes_on().await;

    std::fs::remove_dir_all(scene.cluster.data(lost)).unwrap();
    scene.cluster.coordinator(lost).start_again();
    wait::until("x", async || {
        let log = scene.cluster.coordinator(lost).log();
        log.contains("remove").then_some(())
    })
    .await;
    println!("{}", scene.cluster.coordinator(lost).log());
    scene.goes_on().await;
    let removed = scene.cluster.baton(&["cluster", "remove", &lost.to_string()]).await;
    assert_eq!(text(&removed.stdout), format!("node {lost} is removed\n"), "{removed:?}");
    scene.cluster.join_again(lost);
    scene.goes_on().await;
    scene.cluster.is_well().await;
    let members = members::members(&scene.cluster.endpoint()).await.members;
    let numbers: Vec<_> = members.iter().map(|m| m.member.as_ref().unwrap().node_id).collect();
    assert!(numbers.contains(&4), "as somebody else: {numbers:?}");
    assert_eq!(scene.attempts(&job).await, 1);
    scene.adds_up(&[]).await;
}
