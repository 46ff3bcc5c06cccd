//! What a writer may count on, and what outlives the node that it wrote to.

use futures::{FutureExt as _, poll};

use baton_state::NodeId;

use super::*;
use crate::environment::Environment;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_alone_counts_on_its_own_disk() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files::open(folder.path().join("files"), Default::default()).unwrap();
    let replication = Replication::alone(files.clone());
    let content = complete(b"alone");
    let mut appender = write(&files, log_name(1), &content).await;
    let mut kept = replication.kept(log_name(1), &appender);
    until_kept(&mut kept, content.len()).await;
    let digest = blake3::hash(&content).into();
    appender.seal(content.len() as u64, digest).await.unwrap();
    assert!(replication.sealed(log_name(1), digest).now_or_never().is_some(), "nobody is asked");
    assert!(replication.deposed().now_or_never().is_none());
    soon(replication.ensure(log_name(2))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_kept_when_a_majority_has_it_on_disk_and_not_before() {
    let world = World::new(3).await;
    world.connect(2, Gate::Cut);
    world.connect(3, Gate::Cut);
    let (name, content) = (log_name(1), frame(b"growing"));
    let appender = write(world.files(1), name, &content).await;
    let mut kept = world.node(1).replication.kept(name, &appender);
    until_flushed(&appender, content.len()).await;
    assert_eq!(kept.length().unwrap(), 0, "it is on one of three");

    world.connect(3, Gate::Open);
    // Its wire to node 2 stays cut.
    world.connect(2, Gate::Cut);
    until_kept(&mut kept, content.len()).await;
    let there = world.files(3).holds(name).await.unwrap().unwrap();
    assert_eq!(there.durable, Some(content.len() as u64), "it was on disk there before");
    assert_eq!(world.on_disk(2, name), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn output_is_on_all_nodes_while_it_is_written() {
    let world = World::new(3).await;
    let name = log_name(1);
    let (first, second) = (frame(b"first"), frame(b"second"));
    let mut appender = write(world.files(1), name, &first).await;
    let mut kept = world.node(1).replication.kept(name, &appender);
    for node in [2, 3] {
        until_length(world.files(node), name, first.len()).await;
    }
    appender.write(first.len() as u64, second.clone().into()).await.unwrap();
    let all = [first, second].concat();
    for node in [2, 3] {
        until_length(world.files(node), name, all.len()).await;
        assert_eq!(world.on_disk(node, name).unwrap(), all);
    }
    until_kept(&mut kept, all.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seal_counts_when_a_majority_has_sealed_the_same() {
    let world = World::new(3).await;
    world.connect(2, Gate::Cut);
    world.connect(3, Gate::Cut);
    let (name, content) = (log_name(1), complete(b"whole"));
    store(world.files(1), name, &content).await;
    let digest = blake3::hash(&content).into();
    let replication = world.node(1).replication.clone();
    let mut sealed = Box::pin(replication.sealed(name, digest));
    assert!(poll!(&mut sealed).is_pending());
    world.connect(2, Gate::Open);
    soon(sealed).await;
    assert!(world.files(2).holds(name).await.unwrap().unwrap().sealed == Some(digest));
    until_sealed(world.files(3), name).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_stops_to_vote_is_not_waited_for() {
    let world = World::new(3).await;
    world.connect(2, Gate::Cut);
    world.connect(3, Gate::Cut);
    let (name, content) = (log_name(1), frame(b"x"));
    let appender = write(world.files(1), name, &content).await;
    let mut kept = world.node(1).replication.kept(name, &appender);
    until_flushed(&appender, content.len()).await;
    assert_eq!(kept.length().unwrap(), 0);
    let grown = kept.grown();
    let change = async {
        world.node(1).standing.send_modify(|standing| standing.voters = vec![NodeId(1)]);
    };
    let (grown, ()) = soon(async { tokio::join!(grown, change) }).await;
    assert_eq!(grown.unwrap(), content.len() as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_leader_gets_what_the_old_one_had_acknowledged() {
    let mut world = World::new(3).await;
    world.connect(3, Gate::Cut);
    let (name, content) = (log_name(1), frame(b"acknowledged"));
    let appender = write(world.files(1), name, &content).await;
    let mut kept = world.node(1).replication.kept(name, &appender);
    until_kept(&mut kept, content.len()).await;
    drop((appender, kept));
    world.stop(1).await;
    world.lead(3);
    world.connect(3, Gate::Open);
    soon(world.node(3).replication.ensure(name)).await.unwrap();
    until_length(world.files(3), name, content.len()).await;

    // The runner goes on there.
    let mut appender = world.files(3).append(name, u64::MAX).await.unwrap();
    let mut kept = world.node(3).replication.kept(name, &appender);
    let more = frame(b"more");
    appender.write(content.len() as u64, more.clone().into()).await.unwrap();
    until_kept(&mut kept, content.len() + more.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_disk_counts_again_after_a_restart() {
    let mut world = World::new(2).await;
    let (name, content) = (log_name(1), frame(b"before"));
    let appender = write(world.files(1), name, &content).await;
    let mut kept = world.node(1).replication.kept(name, &appender);
    until_kept(&mut kept, content.len()).await;
    drop((appender, kept));
    world.stop(2).await;
    let appender = world.files(1).append(name, u64::MAX).await.unwrap();
    let mut kept = world.node(1).replication.kept(name, &appender);
    world.start(2, 2).await;
    until_kept(&mut kept, content.len()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_runner_that_goes_on_elsewhere_and_a_copy_do_not_fight() {
    let world = World::new(2).await;
    let name = log_name(1);
    let chunks: Vec<Vec<u8>> = (0..200_u8).map(|byte| frame(&[byte; 1000])).collect();
    let whole = chunks.concat();
    let mut here = world.files(1).append(name, u64::MAX).await.unwrap();
    let mut at = 0;
    for chunk in &chunks {
        here.write(at, chunk.clone().into()).await.unwrap();
        at += chunk.len() as u64;
    }
    // Node 2 takes the output over, while it still copies what node 1 has.
    world.lead(2);
    let mut there = world.files(2).append(name, u64::MAX).await.unwrap();
    let mut kept = world.node(2).replication.kept(name, &there);
    let mut at = 0;
    for chunk in &chunks {
        there.write(at, chunk.clone().into()).await.unwrap();
        at += chunk.len() as u64;
    }
    until_kept(&mut kept, whole.len()).await;
    assert_eq!(world.on_disk(2, name).unwrap(), whole);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_kept_by_a_majority_that_knows_it_is_wanted() {
    let content = b"archive";
    let name = upload_name(content);
    let FileName::Upload { digest } = name else { panic!("not an upload") };
    let now = Environment::system().clock.now();
    let long_ago = wanted::from_millis(now.0) - Duration::from_secs(24 * 60 * 60);
    let world = World::with(3, async |node, files: &Files| {
        if node == 1 {
            let mut appender = files.append(name, u64::MAX).await.unwrap();
            appender.write(0, Bytes::from_static(content)).await.unwrap();
            let length = content.len() as u64;
            appender.seal_as(length, digest, Some(long_ago)).await.unwrap();
        }
    })
    .await;
    for node in [2, 3] {
        until_sealed(world.files(node), name).await;
        let held = world.files(node).holds(name).await.unwrap().unwrap();
        assert!(!is_young(held.modified, now), "a copy does not seem newer than what was copied");
    }
    let size = content.len() as u64;
    assert!(world.node(1).replication.keep_source(digest, size).await.unwrap());
    for node in [1, 2, 3] {
        until(world.files(node), name, |held| is_young(held.unwrap().modified, now)).await;
    }
    assert!(!world.node(1).replication.keep_source(digest, size + 1).await.unwrap());
    let none = blake3::hash(b"none").into();
    assert!(!world.node(1).replication.keep_source(none, 4).await.unwrap());
}
