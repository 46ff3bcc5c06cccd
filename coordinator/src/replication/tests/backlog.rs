//! What a node says that it lacks, and that it fetches all of it in the end.

use tokio::task::JoinSet;

use super::*;

async fn until_lacking(world: &World, node: u64, files: u64) {
    let mut lacking = world.node(node).replication.lacking();
    soon(lacking.wait_for(|lacking| *lacking == Some(files))).await.unwrap();
}

/// Two nodes, of which the second lacks so many files and cannot say whether it needs them.
async fn undecided(files: u64) -> World {
    let world = World::new(2).await;
    world.connect(2, Gate::Cut);
    world.node(2).unwanted.unknown.store(true, Ordering::Relaxed);
    for number in 1..=files {
        store(world.files(1), log_name(number), &complete(&number.to_be_bytes())).await;
    }
    world.connect(2, Gate::Open);
    until_lacking(&world, 2, files).await;
    world
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_knows_what_it_lacks_until_it_has_it() {
    let world = undecided(40).await;
    assert_eq!(world.on_disk(2, log_name(1)), None);
    world.node(2).unwanted.unknown.store(false, Ordering::Relaxed);
    until_lacking(&world, 2, 0).await;
    for number in 1..=40 {
        let content = complete(&u64::to_be_bytes(number));
        assert_eq!(world.on_disk(2, log_name(number)), Some(content));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_needed_or_had_by_nobody_any_more_is_not_lacking() {
    let mut world = undecided(3).await;
    world.node(2).unwanted.names.lock().unwrap().insert(log_name(1));
    assert!(world.files(1).remove(log_name(2)).await.unwrap());
    until_lacking(&world, 2, 1).await;
    world.stop(1).await;
    until_lacking(&world, 2, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_fetched_although_it_was_not_known_at_first_whether_it_is_needed() {
    let world = World::new(2).await;
    until_lacking(&world, 2, 0).await;
    world.node(2).unwanted.unknown.store(true, Ordering::Relaxed);
    store(world.files(1), log_name(1), &complete(b"told of later")).await;
    until_lacking(&world, 2, 1).await;
    world.node(2).unwanted.unknown.store(false, Ordering::Relaxed);
    until_sealed(world.files(2), log_name(1)).await;
    until_lacking(&world, 2, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_was_there_comes_while_more_and_more_is_written() {
    let growing = log_name(1);
    let world = World::with(2, async |node, files: &Files| {
        for number in (2..=200).filter(|_| node == 1) {
            store(files, log_name(number), &complete(&number.to_be_bytes())).await;
        }
        if node == 1 {
            write(files, growing, &frame(b"begun")).await;
        }
    })
    .await;
    let files = world.files(1).clone();
    let mut load = JoinSet::new();
    load.spawn(async move {
        let mut appender = files.append(growing, u64::MAX).await.unwrap();
        for number in 1000.. {
            appender.write(appender.length(), frame(b"more").into()).await.unwrap();
            store(&files, log_name(number), &complete(b"later")).await;
        }
    });
    until_lacking(&world, 2, 0).await;
    assert!(load.try_join_next().is_none(), "it goes on");
    for number in 2..=200 {
        assert!(world.on_disk(2, log_name(number)).is_some(), "{number}");
    }
}
