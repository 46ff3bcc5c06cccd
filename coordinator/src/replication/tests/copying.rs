//! How what one node has comes to the others.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_from_before_is_fetched_by_all() {
    let content = complete(b"from before");
    let world = World::with(3, async |node, files: &Files| {
        if node == 2 {
            store(files, log_name(1), &content).await;
            store(files, upload_name(b"archive"), b"archive").await;
        }
    })
    .await;
    for node in [1, 3] {
        until_sealed(world.files(node), log_name(1)).await;
        until_sealed(world.files(node), upload_name(b"archive")).await;
        assert_eq!(world.on_disk(node, log_name(1)).unwrap(), content);
        let (copy, original) = (
            world.files(node).holds(log_name(1)).await.unwrap().unwrap(),
            world.files(2).holds(log_name(1)).await.unwrap().unwrap(),
        );
        assert_eq!(copy.sealed, original.sealed);
        assert_eq!(wanted::to_millis(copy.modified), wanted::to_millis(original.modified));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_was_away_catches_up() {
    let world = World::new(3).await;
    world.connect(3, Gate::Cut);
    for number in 1..=20 {
        store(world.files(1), log_name(number), &complete(&number.to_be_bytes())).await;
        until_sealed(world.files(2), log_name(number)).await;
    }
    let growing = frame(b"still running");
    let _appender = write(world.files(1), log_name(21), &growing).await;
    assert_eq!(world.on_disk(3, log_name(1)), None);
    world.connect(3, Gate::Open);
    for number in 1..=20 {
        until_sealed(world.files(3), log_name(number)).await;
    }
    until_length(world.files(3), log_name(21), growing.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_is_not_what_was_sealed_is_made_anew() {
    let (right, wrong) = (complete(&[1; 1000]), complete(&[2; 1000]));
    let longer = [frame(&[3; 5000])].concat();
    let archive = vec![4; 10_000];
    let world = World::with(2, async |node, files: &Files| {
        if node == 1 {
            for number in 1..=3 {
                store(files, log_name(number), &right).await;
            }
            store(files, upload_name(&archive), &archive).await;
        } else {
            // A part of other content, all of other content, and too much of it.
            write(files, log_name(1), &wrong[..500]).await;
            write(files, log_name(2), &wrong).await;
            write(files, log_name(3), &longer).await;
            write(files, upload_name(&archive), &[5; 3000]).await;
        }
    })
    .await;
    for number in 1..=3 {
        until_sealed(world.files(2), log_name(number)).await;
        assert_eq!(world.on_disk(2, log_name(number)).unwrap(), right);
    }
    until_sealed(world.files(2), upload_name(&archive)).await;
    assert_eq!(world.on_disk(2, upload_name(&archive)).unwrap(), archive);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_removed_is_not_brought_back_by_a_slower_node() {
    let world = World::new(2).await;
    store(world.files(1), log_name(1), &complete(b"old")).await;
    until_sealed(world.files(2), log_name(1)).await;
    world.node(1).unwanted.names.lock().unwrap().insert(log_name(1));
    assert!(world.files(1).remove(log_name(1)).await.unwrap());
    // All is told again, and node 2 has it still.
    world.connect(1, Gate::Cut);
    world.connect(1, Gate::Open);
    store(world.files(2), log_name(2), &complete(b"new")).await;
    until_sealed(world.files(1), log_name(2)).await;
    soon(world.node(1).replication.ensure(log_name(2))).await.unwrap();
    assert_eq!(world.on_disk(1, log_name(1)), None);
    assert!(world.on_disk(2, log_name(1)).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_small_files_come_over() {
    let world = World::with(2, async |node, files: &Files| {
        for number in (1..=1000).filter(|_| node == 1) {
            store(files, log_name(number), &complete(&number.to_be_bytes())).await;
        }
    })
    .await;
    for number in 1..=1000 {
        until_sealed(world.files(2), log_name(number)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_files_grow_than_are_fetched_at_once() {
    let world = World::new(2).await;
    let mut writers = Vec::new();
    for number in 1..=150 {
        let name = log_name(number);
        let appender = write(world.files(1), name, &frame(b"one")).await;
        let kept = world.node(1).replication.kept(name, &appender);
        writers.push((appender, kept));
    }
    let mut length = frame(b"one").len();
    for _ in 0..3 {
        let more = frame(b"more");
        for (appender, _) in &mut writers {
            appender.write(length as u64, more.clone().into()).await.unwrap();
        }
        length += more.len();
        for (_, kept) in &mut writers {
            until_kept(kept, length).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_goes_on_where_a_broken_connection_left_it() {
    const LENGTH: usize = 50 * 1024 * 1024;
    let content: Vec<u8> = (0..LENGTH).map(|at| (at / 7 % 251) as u8).collect();
    let name = upload_name(&content);
    let world = World::new(2).await;
    let wire = world.wire(2, 1);
    wire.meter.until_cut.store(20 * 1024 * 1024, Ordering::Relaxed);
    store(world.files(1), name, &content).await;
    until_sealed(world.files(2), name).await;
    assert_eq!(world.on_disk(2, name).unwrap(), content);
    let carried = wire.meter.carried.load(Ordering::Relaxed);
    assert!(wire.meter.until_cut.load(Ordering::Relaxed) > i64::MAX / 2, "it was cut");
    assert!(carried < (LENGTH + LENGTH / 4) as u64, "{carried} bytes were carried");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_node_does_not_slow_the_others() {
    let world = World::new(3).await;
    // Node 3 is connected to node 1 and takes nothing from it.
    store(world.files(1), log_name(1), &complete(b"all are there")).await;
    until_sealed(world.files(3), log_name(1)).await;
    world.wire(3, 1).gate.send_replace(Gate::Stalled);
    world.wire(3, 2).gate.send_replace(Gate::Stalled);
    let name = log_name(2);
    let mut appender = world.files(1).append(name, u64::MAX).await.unwrap();
    let mut kept = world.node(1).replication.kept(name, &appender);
    let mut length = 0;
    for _ in 0..100 {
        let chunk = frame(&[7; 60_000]);
        appender.write(length as u64, chunk.clone().into()).await.unwrap();
        length += chunk.len();
    }
    until_kept(&mut kept, length).await;
    assert_eq!(world.on_disk(3, name), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_is_had_from_whoever_is_left() {
    let mut world = World::new(3).await;
    let content = complete(b"output");
    world.connect(3, Gate::Cut);
    store(world.files(1), log_name(1), &content).await;
    until_sealed(world.files(2), log_name(1)).await;
    world.stop(1).await;
    world.connect(3, Gate::Open);
    let replication = &world.node(3).replication;
    assert!(soon(replication.has_whole(log_name(1), content.len() as u64)).await.unwrap());
    assert!(!soon(replication.has_whole(log_name(2), 1)).await.unwrap(), "nobody has that");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_its_disk_has_damaged_is_fetched_anew_when_a_reader_finds_out() {
    let world = World::new(2).await;
    let (name, content) = (log_name(1), complete(&[7; 1000]));
    store(world.files(1), name, &content).await;
    until_sealed(world.files(2), name).await;
    let (recorded, replication) = (blake3::hash(&content).into(), &world.node(2).replication);
    assert!(!replication.repair(name, recorded).await.unwrap(), "nothing is wrong with it");

    let mut damaged = content.clone();
    damaged[500] ^= 1;
    world.damage(2, name, &damaged);
    assert!(soon(replication.repair(name, recorded)).await.unwrap());
    until_sealed(world.files(2), name).await;
    assert_eq!(world.on_disk(2, name).unwrap(), content);

    world.damage(2, name, &damaged);
    world.connect(1, Gate::Cut);
    soon(async {
        while !world.node(2).replication.shared.view.having(name).is_empty() {
            world.node(2).replication.shared.view.lists().changed().await.unwrap();
        }
    })
    .await;
    assert!(!replication.repair(name, recorded).await.unwrap(), "what is left is all there is");
    assert_eq!(world.on_disk(2, name).unwrap(), damaged);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_of_content_that_is_too_short_is_fetched_anew() {
    let world = World::new(2).await;
    let content = b"archive";
    let (name, digest) = (upload_name(content), blake3::hash(content).into());
    store(world.files(1), name, content).await;
    until_sealed(world.files(2), name).await;
    world.damage(2, name, b"arch");
    assert!(soon(world.node(2).replication.keep_source(digest, 7)).await.unwrap());
    assert_eq!(world.on_disk(2, name).unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_file_gets_it_although_nothing_else_needs_it() {
    let world = World::new(2).await;
    let content = b"archive";
    let (name, digest) = (upload_name(content), blake3::hash(content).into());
    world.node(2).unwanted.names.lock().unwrap().insert(name);
    store(world.files(1), name, content).await;
    until_told(&world.node(2).replication, name).await;
    assert!(soon(world.node(2).replication.keep_source(digest, 7)).await.unwrap());
    assert_eq!(world.on_disk(2, name).unwrap(), content);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_file_that_does_not_come_is_told_so() {
    let world = World::new(2).await;
    store(world.files(1), log_name(1), &complete(b"there")).await;
    until_sealed(world.files(2), log_name(1)).await;
    world.node(2).unwanted.names.lock().unwrap().insert(log_name(2));
    store(world.files(1), log_name(2), &complete(b"not there")).await;
    until_told(&world.node(2).replication, log_name(2)).await;
    world.wire(2, 1).gate.send_replace(Gate::Stalled);
    assert!(!soon(world.node(2).replication.has_whole(log_name(2), 1)).await.unwrap());
}
