//! The log is given up in steps: the history is durable, a snapshot is written,
//! it takes the log's place, files are removed. A crash after any of them loses
//! nothing.

use std::sync::{Mutex, mpsc};

use baton_state::{State, snapshot};
use raft::eraftpb::ConfState;

use super::{bytes, damage::copy, history, node, options, propose};
use crate::raft::{Options, ProposeError, snapshots::Snapshots, store::Store};

/// The state that a node has which starts from this folder.
async fn state_of(dir: &std::path::Path) -> Vec<u8> {
    let node = node(options(dir, 1_000));
    let state = bytes(&node);
    node.stop().await;
    state
}

#[tokio::test]
async fn a_crash_between_any_two_steps_gives_the_same_state_again() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("node");
    let image = |name: &str| {
        let to = folder.path().join(name);
        copy(&dir, &to);
        to
    };
    let first = node(options(&dir, 1_000));
    propose(&first, 0..300).await;
    let expected = bytes(&first);
    let state: State = first.state().clone();
    first.stop().await;
    let first_file = dir.join("log/0000000000000001.raftlog");
    assert!(first_file.exists());

    let snapshots = Snapshots::open(&dir).unwrap();
    let members = ConfState::from((vec![1], vec![]));
    let record = snapshots.save(&state, 1, &members).unwrap();
    let mut images = vec![image("snapshot written")];
    let mut store = Store::open(&dir, 1, super::FILE).unwrap();
    store.compact(record.clone(), 0).unwrap();
    images.push(image("snapshot counts"));
    store.purge().unwrap();
    images.push(image("files removed"));
    drop(store);
    images.push(image("stopped"));
    assert!(!first_file.exists(), "nothing of the first file is needed any more");
    snapshots.keep(&[record.index]).unwrap();
    images.push(image("older snapshots removed"));
    for image in images {
        assert!(state_of(&image).await == expected, "{}", image.display());
        assert!(state_of(&image).await == expected, "again: {}", image.display());
    }
}

#[tokio::test]
async fn a_crash_before_and_after_the_history_is_durable_keeps_the_whole_log() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("node");
    let to = folder.path().join("crash");
    let (from, image) = (dir.clone(), to.clone());
    let (asked, was_asked) = mpsc::channel();
    let history = history(0, move |index| {
        copy(&from, &image);
        let _ = asked.send(index);
        Err(std::io::Error::other("the history is not on disk"))
    });
    let first = node(Options { history, ..options(&dir, 100) });
    // With the entries that found the cluster and a term: the last one makes it due.
    propose(&first, 0..98).await;
    let index = tokio::task::spawn_blocking(move || was_asked.recv().unwrap()).await.unwrap();
    let expected = bytes(&first);
    assert_eq!(first.status().borrow().first_index, 1);
    first.stop().await;
    let crashed = node(options(&to, 1_000));
    assert!(crashed.state().applied() > index);
    assert!(bytes(&crashed) == expected);
}

#[tokio::test]
async fn a_stop_waits_for_the_snapshot_that_is_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let (release, released) = mpsc::channel::<()>();
    let (asked, was_asked) = mpsc::channel();
    let released = Mutex::new(released);
    let history = history(0, move |index| {
        asked.send(index).unwrap();
        let _ = released.lock().unwrap().recv();
        Ok(())
    });
    let first = node(Options { history, ..options(folder.path(), 20) });
    propose(&first, 0..18).await;
    let index = tokio::task::spawn_blocking(move || was_asked.recv().unwrap()).await.unwrap();
    let callers_are_let_go = async {
        while first.read_barrier().await != Err(ProposeError::Stopped) {}
        drop(release);
    };
    tokio::join!(first.stop(), callers_are_let_go);
    let path = folder.path().join("snapshots").join(format!("snapshot-{index:020}"));
    let written = snapshot::decode(&std::fs::read(path).unwrap()).unwrap();
    assert_eq!(written.applied(), index);
    assert!(std::fs::read_dir(folder.path().join("snapshots")).unwrap().count() == 1);
}
