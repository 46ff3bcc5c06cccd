//! Replication with no thread but the one that runs it, over no network, and with no
//! time but tokio's: what a simulation counts on.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use baton_proto::peer;
use baton_state::NodeId;
use futures::{
    FutureExt as _, StreamExt as _, TryStreamExt as _, future::BoxFuture, stream::BoxStream,
};
use tokio::{
    runtime::Builder,
    sync::watch,
    time::{interval, sleep},
};
use tokio_stream::wrappers::WatchStream;

use super::{world::Unwanted, *};
use crate::{
    environment::{Blocking, Clock},
    files::{Disk, FilesOptions, SystemDisk},
};

/// Does work at once, on the thread that asks for it.
struct Inline;

impl Blocking for Inline {
    fn run(&self, work: Box<dyn FnOnce() + Send>) {
        work();
    }
}

struct Never;

impl Clock for Never {
    fn now(&self) -> Timestamp {
        panic!("nothing here depends on the time of day");
    }
}

/// Members that are asked with a function call, and answer after a while.
pub(super) struct InMemory {
    others: watch::Sender<BTreeMap<NodeId, String>>,
    stores: Mutex<BTreeMap<NodeId, Files>>,
}

const DELAY: Duration = Duration::from_millis(3);

impl InMemory {
    pub(super) fn of(others: &[(u64, &Files)]) -> Arc<Self> {
        let stores = others.iter().map(|(node, files)| (NodeId(*node), (*files).clone()));
        let stores: BTreeMap<_, _> = stores.collect();
        let others = stores.keys().map(|node| (*node, String::new())).collect();
        Arc::new(Self { others: watch::Sender::new(others), stores: Mutex::new(stores) })
    }

    fn store(&self, node: NodeId) -> Files {
        self.stores.lock().unwrap()[&node].clone()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "what map_err gives")]
fn refused(error: ApiError) -> NotGiven {
    NotGiven(error.to_string())
}

impl Members for InMemory {
    fn others(&self) -> BTreeMap<NodeId, String> {
        self.others.borrow().clone()
    }

    fn follow(&self) -> BoxStream<'static, BTreeMap<NodeId, String>> {
        WatchStream::new(self.others.subscribe()).boxed()
    }

    fn watch_files(
        &self,
        node: NodeId,
    ) -> BoxFuture<'_, Result<Answers<peer::WatchFilesResponse>, NotGiven>> {
        async move {
            sleep(DELAY).await;
            let told = serve::watch_files(&self.store(node), CancellationToken::new());
            Ok(told.map_err(refused).boxed())
        }
        .boxed()
    }

    fn read_file(
        &self,
        node: NodeId,
        name: peer::FileName,
        offset: u64,
    ) -> BoxFuture<'_, Result<Answers<peer::ReadFileResponse>, NotGiven>> {
        async move {
            sleep(DELAY).await;
            let (files, stop) = (self.store(node), CancellationToken::new());
            let read = serve::read_file(&files, Some(&name), offset, stop).await;
            Ok(read.map_err(refused)?.map_err(refused).boxed())
        }
        .boxed()
    }
}

pub(super) fn open(root: &Path, disk: impl Disk + 'static) -> Files {
    let (sync_threads, blocking, disk) = (0, Arc::new(Inline), Arc::new(disk));
    let options = FilesOptions { sync_threads, blocking, disk, ..FilesOptions::default() };
    Files::open(root, options).unwrap()
}

/// Flushes what is due all the time.
pub(super) fn flush(stores: &[&Files], tasks: &TaskTracker) {
    let stores: Vec<_> = stores.iter().map(|files| (*files).clone()).collect();
    tasks.spawn(async move {
        let mut times = interval(Duration::from_millis(1));
        loop {
            times.tick().await;
            stores.iter().for_each(Files::flush_due);
        }
    });
}

pub(super) fn start(
    this: u64,
    files: &Files,
    members: Arc<InMemory>,
    tasks: &TaskTracker,
) -> Replication {
    let voters = vec![NodeId(1), NodeId(2)];
    let standing = Standing { this: NodeId(this), leader: NodeId(1), leading: this == 1, voters };
    let (sender, standing) = watch::channel(standing);
    let wanted = Arc::new(Unwanted::default());
    let stop = CancellationToken::new();
    let (files, clock) = (files.clone(), Arc::new(Never));
    tasks.spawn(async move { sender.closed().await });
    Replication::start_with(files, members, standing, wanted, clock, tasks, &stop)
}

#[test]
fn a_log_is_replicated_without_threads_network_or_the_systems_time() {
    static THREADS: AtomicUsize = AtomicUsize::new(0);
    let started = || {
        THREADS.fetch_add(1, Ordering::Relaxed);
    };
    let mut runtime = Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).on_thread_start(started);
    runtime.build().unwrap().block_on(async {
        let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, two] = [open(folders[0].path(), SystemDisk), open(folders[1].path(), SystemDisk)];
        let tasks = TaskTracker::new();
        let first = start(1, &one, InMemory::of(&[(2, &two)]), &tasks);
        let _second = start(2, &two, InMemory::of(&[(1, &one)]), &tasks);

        let (name, content) = (log_name(1), complete(&[7; 60_000]));
        let (begin, end) = content.split_at(20_000);
        let mut appender = write(&one, name, begin).await;
        let mut kept = first.kept(name, &appender);
        until_length(&two, name, begin.len()).await;
        sleep(Duration::from_secs(1)).await;
        assert_eq!(kept.length().unwrap(), 0, "nobody has flushed");

        flush(&[&one, &two], &tasks);
        until_kept(&mut kept, begin.len()).await;
        let end = Bytes::copy_from_slice(end);
        appender.write(begin.len() as u64, end).await.unwrap();
        until_kept(&mut kept, content.len()).await;
        let digest = blake3::hash(&content).into();
        appender.seal(content.len() as u64, digest).await.unwrap();
        soon(first.sealed(name, digest)).await;
        let held = two.holds(name).await.unwrap().unwrap();
        assert_eq!((held.sealed, held.length), (Some(digest), content.len() as u64));
    });
    assert_eq!(THREADS.load(Ordering::Relaxed), 0);
}
