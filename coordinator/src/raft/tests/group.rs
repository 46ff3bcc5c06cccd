//! Several nodes, with a network in memory that tests cut and heal.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use baton_state::{
    Command, Index, NodeId, Reply, Timestamp,
    command::{PutMember, RemoveMember},
};
use futures::{
    FutureExt as _,
    future::{BoxFuture, ready},
};
use raft::eraftpb::Message;
use tokio::{runtime::Handle, sync::mpsc};

use super::{bytes, propose, register};
use crate::{
    environment::Environment,
    raft::{
        Beginning, Change, Fetch, HistoryStore, Options, ProposeError, RaftHandle, Status,
        Transport,
        testing::{founding, member, start},
    },
};

/// The nodes that can be reached, and the links that are cut.
#[derive(Default)]
struct Network {
    nodes: Mutex<BTreeMap<u64, (RaftHandle, PathBuf)>>,
    cut: Mutex<BTreeSet<(u64, u64)>>,
    fetches: Mutex<Vec<(NodeId, Index)>>,
}

impl Network {
    fn is_cut(&self, from: u64, to: u64) -> bool {
        self.cut.lock().unwrap().contains(&(from, to))
    }

    fn isolate(&self, node: u64) {
        let others: Vec<u64> = self.nodes.lock().unwrap().keys().copied().collect();
        let mut cut = self.cut.lock().unwrap();
        for other in others.into_iter().filter(|other| *other != node) {
            cut.insert((node, other));
            cut.insert((other, node));
        }
    }

    fn heal(&self) {
        self.cut.lock().unwrap().clear();
    }
}

/// One node's end of the network: takes messages in order, on a task of its own.
struct Link {
    network: Arc<Network>,
    messages: mpsc::UnboundedSender<Vec<Message>>,
}

impl Link {
    fn start(network: &Arc<Network>) -> Self {
        let (messages, mut waiting) = mpsc::unbounded_channel::<Vec<Message>>();
        let carrier = Arc::clone(network);
        Handle::current().spawn(async move {
            while let Some(batch) = waiting.recv().await {
                for message in batch {
                    let known = carrier.nodes.lock().unwrap().get(&message.to).cloned();
                    let cut = carrier.is_cut(message.from, message.to);
                    if let Some((node, _)) = known.filter(|_| !cut) {
                        let _ = node.step(vec![message]).await;
                    }
                }
            }
        });
        Self { network: Arc::clone(network), messages }
    }
}

impl Transport for Link {
    fn send(&self, messages: Vec<Message>) {
        let _ = self.messages.send(messages);
    }

    fn fetch(&self, fetch: Fetch) {
        self.network.fetches.lock().unwrap().push((fetch.from, fetch.index));
        let from = self.network.nodes.lock().unwrap().get(&fetch.from.0).cloned();
        let copied = || -> io::Result<()> {
            let (_, dir) = from.ok_or(io::ErrorKind::NotConnected)?;
            fs::create_dir_all(&fetch.into)?;
            let name = format!("snapshot-{:020}", fetch.index);
            let state = fetch.into.join(format!("state-{:020}", fetch.index));
            fs::copy(dir.join("snapshots").join(name), state)?;
            fs::write(fetch.into.join(format!("history-{:020}", fetch.index)), "history")
        };
        (fetch.done)(copied());
    }
}

/// A history that reaches as far as the last copy that it got.
struct Copied(Mutex<Index>);

impl Copied {
    fn reach(&self, through: Index) {
        let mut position = self.0.lock().unwrap();
        *position = through.max(*position);
    }
}

impl HistoryStore for Copied {
    fn position(&self) -> Index {
        *self.0.lock().unwrap()
    }

    fn secure(&self, through: Index) -> BoxFuture<'_, io::Result<()>> {
        self.reach(through);
        ready(Ok(())).boxed()
    }

    fn replace(&self, copy: PathBuf) -> BoxFuture<'_, io::Result<Index>> {
        assert_eq!(fs::read_to_string(&copy).unwrap(), "history");
        let name = copy.file_name().unwrap().to_str().unwrap();
        let index: Index = name.strip_prefix("history-").unwrap().parse().unwrap();
        self.reach(index + 1000);
        ready(Ok(index + 1000)).boxed()
    }
}

struct Group {
    folder: tempfile::TempDir,
    network: Arc<Network>,
    histories: BTreeMap<u64, Arc<Copied>>,
    snapshot_every: u64,
}

impl Group {
    fn new(snapshot_every: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, network: Arc::default(), histories: BTreeMap::new(), snapshot_every }
    }

    fn dir(&self, node: u64) -> PathBuf {
        self.folder.path().join(node.to_string())
    }

    fn begin(&mut self, node: u64, beginning: Beginning) -> RaftHandle {
        let history = self.histories.entry(node).or_insert_with(|| Arc::new(Copied(Mutex::new(0))));
        let history = Arc::clone(history);
        let handle = start(Options {
            node_id: node,
            dir: self.dir(node),
            snapshot_every: self.snapshot_every,
            beginning,
            history: Some(history),
            observers: Vec::new(),
            transport: Arc::new(Link::start(&self.network)),
            environment: Environment::system(),
            runtime: Handle::current(),
        });
        let handle = handle.unwrap();
        let reachable = (handle.clone(), self.dir(node));
        self.network.nodes.lock().unwrap().insert(node, reachable);
        handle
    }

    fn found(&mut self) -> RaftHandle {
        self.begin(1, Beginning::Found(Box::new(founding())))
    }

    /// Adds a node and lets it vote.
    async fn join(&mut self, leader: &RaftHandle, node: u64) -> RaftHandle {
        let handle = self.learn(leader, node).await;
        leader.change(Change::Promote(NodeId(node)), None).await.unwrap();
        handle
    }

    async fn learn(&mut self, leader: &RaftHandle, node: u64) -> RaftHandle {
        let put = PutMember { node: NodeId(node), member: member(node), at: Timestamp(1) };
        let put = Some(Command::PutMember(put));
        let added = leader.change(Change::AddLearner(NodeId(node)), put).await;
        assert_eq!(added, Ok(Reply::Done));
        let handle = self.begin(node, Beginning::Join);
        caught_up(leader, &handle).await;
        handle
    }

    async fn of_three(snapshot_every: u64) -> (Self, [RaftHandle; 3]) {
        let mut group = Self::new(snapshot_every);
        let first = group.found();
        let second = group.join(&first, 2).await;
        let third = group.join(&first, 3).await;
        (group, [first, second, third])
    }

    fn handle(&self, node: u64) -> RaftHandle {
        self.network.nodes.lock().unwrap()[&node].0.clone()
    }

    async fn stop(&self, node: u64) {
        let (handle, _) = self.network.nodes.lock().unwrap().remove(&node).unwrap();
        handle.stop().await;
    }
}

async fn caught_up(leader: &RaftHandle, follower: &RaftHandle) {
    leader.read_barrier().await.unwrap();
    let applied = leader.status().borrow().applied;
    let mut status = follower.status();
    status.wait_for(|status| status.applied >= applied).await.unwrap();
}

async fn wait(node: &RaftHandle, what: impl FnMut(&Status) -> bool) {
    node.status().wait_for(what).await.unwrap();
}

/// The one among these that leads, once there is one.
async fn leader_of(nodes: &[&RaftHandle]) -> RaftHandle {
    let leads = nodes.iter().map(|node| {
        let mut status = node.status();
        Box::pin(async move {
            status.wait_for(|status| status.leading).await.unwrap();
            (*node).clone()
        })
    });
    futures::future::select_all(leads).await.0
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_acknowledges_all_have_and_any_can_be_read_after_a_barrier() {
    let (_group, nodes) = Group::of_three(1_000).await;
    propose(&nodes[0], 0..100).await;
    for node in &nodes[1..] {
        node.read_barrier().await.unwrap();
        assert_eq!(bytes(node), bytes(&nodes[0]));
        let refused = node.propose(register("r")).await;
        assert_eq!(refused, Err(ProposeError::NotLeader));
    }
    assert_eq!(nodes[2].status().borrow().voters.len(), 3);
    assert_eq!(nodes[2].state().members().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_one_of_three_may_die_and_comes_back() {
    let (mut group, nodes) = Group::of_three(1_000).await;
    group.stop(3).await;
    propose(&nodes[0], 0..10).await;
    let third = group.begin(3, Beginning::Restart);
    caught_up(&nodes[0], &third).await;
    group.stop(1).await;
    let leader = leader_of(&[&nodes[1], &third]).await;
    propose(&leader, 10..20).await;
    let first = group.begin(1, Beginning::Restart);
    caught_up(&leader, &first).await;
    assert_eq!(bytes(&first), bytes(&leader));
    assert_eq!(first.state().runners().len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_acknowledges_nothing_and_reads_nothing() {
    let (group, nodes) = Group::of_three(1_000).await;
    propose(&nodes[0], 0..5).await;
    group.network.isolate(1);
    let lost = nodes[0].propose(register("lost"));
    let read = nodes[0].read_barrier();
    let (lost, read) = tokio::join!(lost, read);
    assert_eq!(lost, Err(ProposeError::LeadershipLost));
    assert_eq!(read, Err(ProposeError::NotLeader));
    let leader = leader_of(&[&nodes[1], &nodes[2]]).await;
    propose(&leader, 5..10).await;
    group.network.heal();
    caught_up(&leader, &nodes[0]).await;
    assert_eq!(bytes(&nodes[0]), bytes(&leader));
    assert_eq!(leader.state().runners().len(), 10, "what was not acknowledged is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_majority_nothing_is_acknowledged() {
    let (group, nodes) = Group::of_three(1_000).await;
    group.stop(2).await;
    group.stop(3).await;
    assert_eq!(nodes[0].propose(register("r")).await, Err(ProposeError::LeadershipLost));
    wait(&nodes[0], |status| !status.leading).await;
    assert_eq!(nodes[0].propose(register("r")).await, Err(ProposeError::NotLeader));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_away_for_long_gets_a_snapshot_and_what_follows() {
    let (mut group, nodes) = Group::of_three(40).await;
    group.stop(3).await;
    propose(&nodes[0], 0..200).await;
    wait(&nodes[0], |status| status.first_index > 100).await;
    let third = group.begin(3, Beginning::Restart);
    caught_up(&nodes[0], &third).await;
    assert_eq!(bytes(&third), bytes(&nodes[0]));
    assert!(!group.network.fetches.lock().unwrap().is_empty(), "the log was gone");
    propose(&nodes[0], 200..230).await;
    caught_up(&nodes[0], &third).await;
    // It starts from what it was sent, although its history is ahead of its log.
    group.stop(3).await;
    let third = group.begin(3, Beginning::Restart);
    caught_up(&nodes[0], &third).await;
    assert_eq!(bytes(&third), bytes(&nodes[0]));
    assert!(!group.dir(3).join("incoming").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_member_gets_a_snapshot_when_the_log_does_not_begin_at_the_beginning() {
    let mut group = Group::new(20);
    let first = group.found();
    propose(&first, 0..100).await;
    wait(&first, |status| status.first_index > 50).await;
    let second = group.join(&first, 2).await;
    assert_eq!(bytes(&second), bytes(&first));
    group.join(&first, 3).await;
    group.stop(1).await;
    wait(&second, |status| status.leader_id > 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_disk_is_repaired_by_remove_and_join() {
    let (mut group, nodes) = Group::of_three(50).await;
    propose(&nodes[0], 0..120).await;
    group.stop(3).await;
    fs::remove_dir_all(group.dir(3)).unwrap();
    group.histories.remove(&3);
    let remove = RemoveMember { node: NodeId(3), at: Timestamp(1) };
    let remove = Some(Command::RemoveMember(remove));
    nodes[0].change(Change::Remove(NodeId(3)), remove).await.unwrap();
    propose(&nodes[0], 120..130).await;
    let taken = PutMember { node: NodeId(3), member: member(30), at: Timestamp(1) };
    let taken = Some(Command::PutMember(taken));
    let refused = nodes[0].change(Change::AddLearner(NodeId(3)), taken).await;
    assert!(matches!(refused, Err(ProposeError::Refused(_))), "a number is never given again");
    assert_eq!(nodes[0].status().borrow().learners, [0; 0], "refused in Raft too");
    let fourth = group.join(&nodes[0], 4).await;
    assert_eq!(fourth.state().runners().len(), 130);
    wait(&fourth, |status| status.voters == [1, 2, 4]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_and_a_learner_does_not_count() {
    let (mut group, nodes) = Group::of_three(1_000).await;
    let learner = group.learn(&nodes[0], 4).await;
    nodes[0].transfer(NodeId(2));
    wait(&nodes[0], |status| status.leader_id == 2).await;
    wait(&nodes[1], |status| status.leading).await;
    propose(&nodes[1], 0..3).await;
    let progress = nodes[1].progress().await.unwrap();
    let voters: Vec<_> = progress.iter().filter(|p| p.voter).map(|p| p.node.0).collect();
    assert_eq!((progress.len(), voters.len()), (4, 3));
    assert_eq!(nodes[0].progress().await.unwrap(), []);
    learner.read_barrier().await.unwrap();
    assert_eq!(learner.state().runners().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_answers_is_active_at_any_time_and_who_does_not_is_not() {
    let (group, nodes) = Group::of_three(1_000).await;
    let active = async || {
        let progress = nodes[0].progress().await.unwrap();
        progress.iter().filter(|node| node.active).count()
    };
    // For longer than raft-rs remembers who has answered. On a busy machine somebody
    // may be late now and then.
    let mut missed = 0;
    for _ in 0..300 {
        missed += usize::from(active().await != 3);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert!(missed < 30, "{missed} of 300 times somebody counted as gone");
    group.stop(3).await;
    while active().await != 2 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_is_refused() {
    let (group, _nodes) = Group::of_three(1_000).await;
    group.stop(3).await;
    fs::remove_dir_all(group.dir(3)).unwrap();
    let options = super::options(&group.dir(3), 1_000);
    let refused = start(Options { node_id: 3, beginning: Beginning::Restart, ..options }).err();
    let message = refused.unwrap().to_string();
    assert!(message.contains("baton cluster remove"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_copy_of_a_folder_goes_on_as_no_member() {
    let (mut group, nodes) = Group::of_three(1_000).await;
    propose(&nodes[0], 0..10).await;
    caught_up(&nodes[0], &nodes[2]).await;
    group.stop(3).await;
    let (folder, copy) = (group.dir(3), group.folder.path().join("copy"));
    copy_folder(&folder, &copy);
    group.begin(3, Beginning::Restart);
    propose(&nodes[0], 10..30).await;
    caught_up(&nodes[0], &group.handle(3)).await;
    let known = nodes[0].status().borrow().applied;
    while nodes[0].kept(NodeId(3)).await.unwrap() < known {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }

    group.stop(3).await;
    fs::remove_dir_all(&folder).unwrap();
    fs::rename(&copy, &folder).unwrap();
    let third = group.begin(3, Beginning::Restart);
    assert!(third.kept(NodeId(3)).await.unwrap() < known);
    let mut status = third.status();
    let failed = status.wait_for(|status| status.failure.is_some()).await.unwrap();
    let failure = failed.failure.as_ref().unwrap();
    assert!(failure.contains("an old copy of the data folder"), "{failure}");
}

fn copy_folder(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_folder(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
