//! A node of one: what it acknowledged is there after any restart.

mod compaction;
mod damage;
mod faulty;
mod group;

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use baton_state::{
    Command, Event, Executors, Index, Reply, RunnerFacts, RunnerId, State, Timestamp,
    command::{MarkUnreachable, RegisterRunner},
    snapshot,
};

use futures::{FutureExt as _, future::BoxFuture};

use super::{
    HistoryStore, Observer, Options, ProposeError, RaftError, RaftHandle,
    testing::{FILE, options, start},
};

#[derive(Default)]
struct Seen {
    applied: Mutex<Vec<Index>>,
    installed: Mutex<Vec<Index>>,
}

impl Observer for Seen {
    fn applied(&self, through: Index, state: &State, _events: &[Event]) {
        assert_eq!(state.applied(), through);
        self.applied.lock().unwrap().push(through);
    }

    fn installed(&self, state: &State) {
        self.installed.lock().unwrap().push(state.applied());
    }
}

/// A history of which tests say how far it reaches, and what securing it does.
struct Kept {
    position: Index,
    /// May block.
    secure: Arc<dyn Fn(Index) -> io::Result<()> + Send + Sync>,
}

impl HistoryStore for Kept {
    fn position(&self) -> Index {
        self.position
    }

    fn secure(&self, through: Index) -> BoxFuture<'_, io::Result<()>> {
        let secure = Arc::clone(&self.secure);
        let secured = tokio::task::spawn_blocking(move || secure(through));
        async move { secured.await.unwrap() }.boxed()
    }

    fn replace(&self, copy: PathBuf) -> BoxFuture<'_, io::Result<Index>> {
        panic!("nobody sends a history: {}", copy.display());
    }
}

fn history(
    position: Index,
    secure: impl Fn(Index) -> io::Result<()> + Send + Sync + 'static,
) -> Option<Arc<dyn HistoryStore>> {
    Some(Arc::new(Kept { position, secure: Arc::new(secure) }))
}

fn register(name: &str) -> Command {
    let facts = RunnerFacts {
        id: RunnerId(name.to_owned()),
        name: name.to_owned(),
        labels: Default::default(),
        slots: 1,
        version: String::new(),
        boot_id: String::new(),
        place: String::new(),
        executors: Executors::default(),
        ephemeral: false,
        leaving: false,
        level: RunnerFacts::UNSAID,
    };
    Command::RegisterRunner(RegisterRunner { facts, at: Timestamp(1) })
}

fn node(options: Options) -> RaftHandle {
    start(options).unwrap()
}

async fn propose(node: &RaftHandle, names: impl Iterator<Item = u32>) {
    for name in names {
        assert_eq!(node.propose(register(&name.to_string())).await, Ok(Reply::Done));
    }
}

fn bytes(node: &RaftHandle) -> Vec<u8> {
    let mut state = node.state().clone();
    // Each start adds an entry of its own.
    state.skip(1_000_000);
    snapshot::encode(&state)
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let first = node(options(dir.path(), 1_000));
    propose(&first, 0..100).await;
    let before = bytes(&first);
    first.stop().await;
    let second = node(options(dir.path(), 1_000));
    assert!(second.status().borrow().leading, "a node of one leads when it has started");
    assert_eq!(bytes(&second), before);
}

#[tokio::test]
async fn a_refusal_comes_back_to_its_proposer() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(options(dir.path(), 1_000));
    let runner = RunnerId("nobody".to_owned());
    let command = Command::MarkUnreachable(MarkUnreachable { runner, at: Timestamp(1) });
    let refused = node.propose(command).await;
    assert!(matches!(refused, Err(ProposeError::Refused(_))), "{refused:?}");
}

#[tokio::test]
async fn a_snapshot_takes_the_place_of_the_log_before_it() {
    let dir = tempfile::tempdir().unwrap();
    let first = node(options(dir.path(), 50));
    propose(&first, 0..200).await;
    let mut status = first.status();
    status.wait_for(|status| status.first_index > 150).await.unwrap();
    propose(&first, 200..220).await;
    let before = bytes(&first);
    first.stop().await;
    let seen = Arc::new(Seen::default());
    let observers: Vec<Arc<dyn Observer>> = vec![seen.clone()];
    let second = node(Options { observers, ..options(dir.path(), 50) });
    assert_eq!(bytes(&second), before);
    let replayed = seen.applied.lock().unwrap().first().copied().unwrap();
    assert!(replayed > 150, "only the tail was replayed, from {replayed}");
    let installed = seen.installed.lock().unwrap().clone();
    assert!(matches!(installed[..], [before] if before < replayed), "{installed:?}");
    let files = std::fs::read_dir(dir.path().join("snapshots")).unwrap().count();
    assert!(files <= 2, "the one that counts, and at most one that came with the stop: {files}");
}

#[tokio::test]
async fn the_log_is_kept_until_it_is_safe_elsewhere() {
    let dir = tempfile::tempdir().unwrap();
    let asked = Arc::new(AtomicU64::new(0));
    let (release, released) = std::sync::mpsc::channel::<()>();
    let released = Mutex::new(released);
    let seen = Arc::clone(&asked);
    let history = history(0, move |index| {
        seen.store(index, Ordering::SeqCst);
        let _ = released.lock().unwrap().recv();
        Ok(())
    });
    let node = node(Options { history, ..options(dir.path(), 20) });
    propose(&node, 0..100).await;
    assert!(asked.load(Ordering::SeqCst) >= 20);
    assert_eq!(node.status().borrow().first_index, 1, "nothing is given up yet");
    drop(release);
    let mut status = node.status();
    status.wait_for(|status| status.first_index > 1).await.unwrap();
}

#[tokio::test]
async fn a_damaged_snapshot_and_a_foreign_folder_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let first = node(options(dir.path(), 10));
    propose(&first, 0..50).await;
    let mut status = first.status();
    status.wait_for(|status| status.first_index > 1).await.unwrap();
    first.stop().await;

    let foreign = start(Options { node_id: 2, ..options(dir.path(), 10) });
    assert!(matches!(foreign.err(), Some(RaftError::ForeignFolder { found: 1, expected: 2, .. })));

    for entry in std::fs::read_dir(dir.path().join("snapshots")).unwrap() {
        let path = entry.unwrap().path();
        let mut bytes = std::fs::read(&path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }
    let damaged = start(options(dir.path(), 10));
    assert!(matches!(damaged.err(), Some(RaftError::DamagedSnapshot { .. })));
}

#[tokio::test]
async fn a_stopped_node_answers_that_it_has_stopped() {
    let dir = tempfile::tempdir().unwrap();
    let node = node(options(dir.path(), 10));
    node.stop().await;
    assert_eq!(node.propose(register("r")).await, Err(ProposeError::Stopped));
    assert_eq!(node.read_barrier().await, Err(ProposeError::Stopped));
}
