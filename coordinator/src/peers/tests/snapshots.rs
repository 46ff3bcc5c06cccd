//! Snapshots on their way from one member to another.

use std::{
    fs,
    io::ErrorKind,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use baton_proto::{
    error::{ApiError, Reason},
    peer::SnapshotPart,
};
use baton_state::{Event, EventKind, RunnerId, Timestamp};
use tokio::{io::AsyncReadExt as _, sync::oneshot, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::fixtures::{Members, TestMember, soon, through_proxy, two};
use crate::{
    history::{Batch, History},
    peers::{
        Outgoing,
        snapshot::{PATIENCE, Wanted, fetch},
    },
    raft::{Fetch, Transport as _},
};

const INDEX: u64 = 40;
/// Long enough for several tries, on a machine that is busy.
const IMPATIENT: Duration = Duration::from_secs(3);

/// Bytes that do not repeat.
fn bytes(length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    blake3::Hasher::new().finalize_xof().fill(&mut bytes);
    bytes
}

/// Gives a member a snapshot: its state, and a history with about as many bytes.
async fn has_snapshot(member: &TestMember, index: u64, length: usize) -> Vec<u8> {
    let state = bytes(length);
    put_state(member.folder(), index, &state);
    fill(&member.history, index, length).await;
    state
}

fn put_state(raft_dir: &Path, index: u64, state: &[u8]) {
    let folder = raft_dir.join("snapshots");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(format!("snapshot-{index:020}")), state).unwrap();
}

async fn fill(history: &History, through: u64, length: usize) {
    let runner = RunnerId("r".repeat(length));
    let kind = EventKind::RunnerUnreachable { runner, name: String::new() };
    let event = Event { index: through, ordinal: 0, at: Timestamp(1), kind };
    let batch = Batch { through, events: vec![event] };
    history.sender().send(batch).await.unwrap();
    let mut position = history.position();
    soon("the batch", position.wait_for(|position| *position >= through)).await.unwrap();
}

fn wanted(from: &TestMember, into: &Path, state: &[u8]) -> Wanted {
    let state_blake3 = *blake3::hash(state).as_bytes();
    Wanted { from: from.id, index: INDEX, state_blake3, into: into.to_owned() }
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// Both parts, in order.
const WHOLE: [&str; 2] = ["history-00000000000000000040", "state-00000000000000000040"];

async fn is_whole(into: &Path, state: &[u8]) {
    assert_eq!(names(into), WHOLE);
    assert_eq!(fs::read(into.join(WHOLE[1])).unwrap(), state);
    // Elsewhere: SQLite puts files of its own beside it.
    let elsewhere = tempfile::tempdir().unwrap();
    let path = elsewhere.path().join("history.db");
    fs::copy(into.join(WHOLE[0]), &path).unwrap();
    let history = History::open(&path).await.unwrap();
    assert_eq!(*history.position().borrow(), INDEX);
    history.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_fetched_when_raft_asks() {
    let (one, two) = two().await;
    let state = has_snapshot(&two, INDEX, 1_000_000).await;
    let into = one.folder().join("incoming");
    fs::create_dir(&into).unwrap();
    // Of earlier tries at other snapshots.
    for other in ["state-00000000000000000030", "history-00000000000000000030.2.part"] {
        fs::write(into.join(other), "old").unwrap();
    }
    // Twice at once: the files are the same.
    let mut fetched = Vec::new();
    for _ in 0..2 {
        let (done, end) = oneshot::channel();
        let fetch = Fetch {
            from: two.id,
            index: INDEX,
            state_blake3: *blake3::hash(&state).as_bytes(),
            into: into.clone(),
            done: Box::new(|result| done.send(result).unwrap()),
        };
        // As Raft's thread does, outside of the runtime.
        let network = Arc::clone(&one.network);
        tokio::task::spawn_blocking(move || network.fetch(fetch)).await.unwrap();
        fetched.push(end);
    }
    for end in fetched {
        soon("the end of the fetch", end).await.unwrap().unwrap();
    }
    is_whole(&into, &state).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_ends_when_the_coordinator_stops() {
    let (one, two) = two().await;
    two.stop_serving().await;
    let (done, end) = oneshot::channel();
    one.network.fetch(Fetch {
        from: two.id,
        index: INDEX,
        state_blake3: [0; 32],
        into: one.folder().join("incoming"),
        done: Box::new(|result| done.send(result).unwrap()),
    });
    drop(one);
    soon("the end of the fetch", end).await.unwrap().unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_that_is_cut_goes_on_where_it_stopped() {
    const LENGTH: usize = 5_000_000;
    let (one, two, proxy) = through_proxy(1_500_000).await;
    let state = has_snapshot(&two, INDEX, LENGTH).await;
    let into = one.folder().join("incoming");
    let wanted = wanted(&two, &into, &state);
    soon("the snapshot", fetch(&one.directory, &wanted, PATIENCE)).await.unwrap();
    is_whole(&into, &state).await;
    // Neither part fits through one connection.
    let passed = proxy.passed();
    assert!(passed.len() >= 6, "{passed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_goes_on_after_a_restart_and_damage_is_found() {
    let (one, mut two, _proxy) = through_proxy(700_000).await;
    let state = has_snapshot(&two, INDEX, 3_000_000).await;
    let into = one.folder().join("incoming");
    let wanted = wanted(&two, &into, &state);
    let partial = into.join("state-00000000000000000040.2.part");
    // The process ends when some of it is there.
    let partly = async {
        while fs::metadata(&partial).map_or(0, |part| part.len()) < 500_000 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        fetched = fetch(&one.directory, &wanted, PATIENCE) => panic!("{fetched:?}"),
        () = soon("some of it", partly) => {}
    }
    let mut damaged = fs::read(&partial).unwrap();
    assert!(state.starts_with(&damaged));
    damaged[1_000] ^= 1;
    fs::write(&partial, &damaged).unwrap();
    let error = fetch(&one.directory, &wanted, PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    // It had gone on with what was there, and does not any more.
    assert_eq!(names(&into), [""; 0]);

    two.stop_serving().await;
    two.move_away().await;
    one.learns(&Members::of(&[&one, &two]));
    fs::write(&partial, &state[..1_000_000]).unwrap();
    fetch(&one.directory, &wanted, PATIENCE).await.unwrap();
    is_whole(&into, &state).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_whole_is_not_fetched_again_unless_it_is_damaged() {
    let (one, two) = two().await;
    let state = has_snapshot(&two, INDEX, 300_000).await;
    let into = one.folder().join("incoming");
    let wanted = wanted(&two, &into, &state);
    fetch(&one.directory, &wanted, PATIENCE).await.unwrap();
    fs::write(into.join(WHOLE[1]), "damaged").unwrap();
    fs::remove_file(into.join(WHOLE[0])).unwrap();
    fetch(&one.directory, &wanted, PATIENCE).await.unwrap();
    is_whole(&into, &state).await;
    two.stop_serving().await;
    fetch(&one.directory, &wanted, IMPATIENT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_that_is_not_the_announced_one_is_refused() {
    let (one, two) = two().await;
    has_snapshot(&two, INDEX, 300_000).await;
    let into = one.folder().join("incoming");
    let wanted = wanted(&two, &into, b"another one");
    let error = fetch(&one.directory, &wanted, PATIENCE).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData, "{error}");
    assert_eq!(names(&into), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_gives_up_when_nothing_comes() {
    let (one, two) = two().await;
    two.stop_serving().await;
    let wanted = wanted(&two, &one.folder().join("incoming"), b"");
    let began = Instant::now();
    soon("the end", fetch(&one.directory, &wanted, IMPATIENT)).await.unwrap_err();
    assert!(began.elapsed() >= IMPATIENT);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_gives_up_at_once_when_the_snapshot_is_gone() {
    let (one, two) = two().await;
    let state = has_snapshot(&two, INDEX, 300_000).await;
    let into = one.folder().join("incoming");
    let wanted = wanted(&two, &into, &state);
    // No copy of the history has been made: what is here comes from another.
    fs::create_dir(&into).unwrap();
    let partial = into.join("history-00000000000000000040.2.part");
    fs::write(&partial, "another").unwrap();
    let error = soon("the end", fetch(&one.directory, &wanted, PATIENCE)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
    assert_eq!(names(&into), WHOLE[1..]);
    // So the next try begins anew.
    fetch(&one.directory, &wanted, PATIENCE).await.unwrap();
    is_whole(&into, &state).await;

    fs::remove_dir_all(&into).unwrap();
    fs::remove_dir_all(two.folder().join("snapshots")).unwrap();
    let error = soon("the end", fetch(&one.directory, &wanted, PATIENCE)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound, "{error}");
}

/// Snapshots of a member that nobody calls.
struct Source {
    outgoing: Arc<Outgoing>,
    history: History,
    folder: tempfile::TempDir,
}

impl Source {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let history = History::open(folder.path().join("history.db")).await.unwrap();
        let outgoing = outgoing(folder.path(), &history);
        Self { outgoing, history, folder }
    }

    async fn snapshot(&self, index: u64) {
        put_state(self.folder.path(), index, b"state");
        fill(&self.history, index, 10).await;
    }

    fn copies(&self) -> Vec<String> {
        names(&self.folder.path().join("outgoing"))
    }
}

fn outgoing(folder: &Path, history: &History) -> Arc<Outgoing> {
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    Outgoing::start(folder, history.clone(), &tasks, &stop).unwrap()
}

fn reason<T: std::fmt::Debug>(result: Result<T, ApiError>) -> Reason {
    result.unwrap_err().reason
}

#[tokio::test(flavor = "multi_thread")]
async fn one_copy_of_the_history_serves_all_who_ask() {
    let source = Source::start().await;
    source.snapshot(7).await;
    let mut contents = Vec::new();
    for _ in 0..2 {
        let mut part = source.outgoing.open(SnapshotPart::History, 7, 0).await.unwrap();
        let mut content = Vec::new();
        part.file.read_to_end(&mut content).await.unwrap();
        assert_eq!(content.len() as u64, part.length);
        contents.push(content);
        // What comes later is not in it.
        fill(&source.history, 8, 10).await;
    }
    assert!(contents[0] == contents[1]);
    source.outgoing.open(SnapshotPart::History, 7, 100).await.unwrap();
    let beyond = source.outgoing.open(SnapshotPart::History, 7, 1 << 40).await;
    assert_eq!(reason(beyond), Reason::OffsetGap);
    let none = source.outgoing.open(SnapshotPart::Unspecified, 7, 0).await;
    assert_eq!(reason(none), Reason::InvalidArgument);
}

#[tokio::test(flavor = "multi_thread")]
async fn copies_go_when_nobody_reads_them_any_more() {
    let source = Source::start().await;
    let open = |index, offset| source.outgoing.open(SnapshotPart::History, index, offset);
    source.snapshot(7).await;
    let reader = open(7, 0).await.unwrap();
    source.snapshot(8).await;
    open(8, 0).await.unwrap();
    assert_eq!(source.copies(), ["history-00000000000000000007", "history-00000000000000000008"]);
    drop(reader);
    source.snapshot(9).await;
    let reader = open(9, 0).await.unwrap();
    assert_eq!(source.copies(), ["history-00000000000000000009"]);

    let now = Instant::now();
    source.outgoing.sweep(now + Duration::from_secs(11 * 60)).await;
    assert_eq!(source.copies().len(), 1, "it is being read");
    drop(reader);
    source.outgoing.sweep(now + Duration::from_secs(60)).await;
    assert_eq!(source.copies().len(), 1, "it was asked for lately");
    source.outgoing.sweep(now + Duration::from_secs(11 * 60)).await;
    assert_eq!(source.copies(), [""; 0]);
    // Another copy would not go with the beginning of that one.
    assert_eq!(reason(open(9, 1).await), Reason::SnapshotNotFound);
    open(9, 0).await.unwrap();

    outgoing(source.folder.path(), &source.history);
    assert_eq!(source.copies(), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_behind_the_snapshot_is_not_given_away() {
    let source = Source::start().await;
    source.snapshot(7).await;
    put_state(source.folder.path(), 9, b"state");
    let behind = source.outgoing.open(SnapshotPart::History, 9, 0).await;
    assert_eq!(reason(behind), Reason::HistoryBehind);
    assert_eq!(source.copies(), [""; 0]);
    let none: PathBuf = source.folder.path().join("snapshots/snapshot-00000000000000000008");
    assert!(!none.exists());
    for part in [SnapshotPart::History, SnapshotPart::State] {
        assert_eq!(reason(source.outgoing.open(part, 8, 0).await), Reason::SnapshotNotFound);
    }
}
