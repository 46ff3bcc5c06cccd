//! What a coordinator sends to the others: Raft's messages, questions about files, and
//! snapshots, all over the simulated network.

use std::{collections::BTreeMap, fs, io, path::PathBuf, sync::Arc, time::Duration};

use baton_coordinator::{
    history::Batch,
    raft::{Fetch, Observer, Transport},
    simulation::{Answers, Coordinator, Members, NotGiven},
};
use baton_proto::{error::ApiError, peer};
use baton_state::{Command, Event, EventKind, Final, Index, NodeId, State};
use futures::{
    FutureExt as _, StreamExt as _,
    future::{BoxFuture, ready},
    stream::{self, BoxStream},
};
use raft::eraftpb::{EntryType, Message};
use tokio::{
    runtime::Handle,
    sync::{oneshot, watch},
    time::timeout,
};
use tokio_stream::wrappers::WatchStream;

use crate::{
    bugs::{Bug, Bugs},
    fuse::{Fuse, Step},
    host::HostId,
    network::{End, Network},
    registry::Registry,
};

/// How long a snapshot may take to be fetched.
const FETCH_WITHIN: Duration = Duration::from_secs(5);

/// The way of one coordinator to the others.
#[derive(Clone)]
pub(super) struct Peers {
    pub(super) network: Network,
    pub(super) registry: Registry,
    pub(super) this: NodeId,
    pub(super) fuse: Fuse,
    pub(super) bugs: Bugs,
    pub(super) runtime: Handle,
    /// The other members, as the log has them.
    pub(super) roster: watch::Sender<BTreeMap<NodeId, String>>,
    /// Where each coordinator has its data.
    pub(super) folders: PathBuf,
}

impl Peers {
    fn host(&self) -> HostId {
        HostId::Coordinator(self.this.0)
    }

    fn note(&self, state: &State) {
        let members = state.members().iter().filter(|(node, _)| **node != self.this);
        let members = members.map(|(node, member)| (*node, member.peer_address.clone())).collect();
        self.roster.send_if_modified(|known| {
            let changed = *known != members;
            *known = members;
            changed
        });
    }

    /// A bug: the history hears of another end of a job before it hears of the real one,
    /// which it then takes for known.
    fn tell_otherwise(&self, through: Index, mut events: Vec<Event>) {
        for event in &mut events {
            if let EventKind::JobFinished { job } = &mut event.kind {
                Arc::make_mut(job).submitted_by = "nobody".to_owned();
            }
        }
        self.registry.on(self.host(), |node| async move {
            // It has stopped.
            let _ = node.history().sender().send(Batch { through, events }).await;
        });
    }

    /// Asks one for a stream of answers.
    fn ask<A: Send + 'static, S>(
        &self,
        node: NodeId,
        label: &'static str,
        serve: impl FnOnce(Coordinator) -> S + Send + 'static,
    ) -> Answers<A>
    where
        S: Future<Output = Result<BoxStream<'static, Result<A, ApiError>>, ApiError>>
            + Send
            + 'static,
    {
        let (registry, to) = (self.registry.clone(), HostId::Coordinator(node.0));
        let accept = move |end: End<A, ()>| {
            registry.on(to, |coordinator| answer(serve(coordinator), end, label));
        };
        let end = self.network.call::<(), A>(self.host(), to, label, accept);
        stream::unfold(Some(end), |end| async {
            let mut end = end?;
            match end.receiver.next().await {
                Ok(Some(answer)) => Some((Ok(answer), Some(end))),
                Ok(None) => None,
                Err(broken) => Some((Err(NotGiven(broken.to_string())), None)),
            }
        })
        .boxed()
    }
}

async fn answer<A: Send + 'static>(
    serve: impl Future<Output = Result<BoxStream<'static, Result<A, ApiError>>, ApiError>>,
    end: End<A, ()>,
    label: &'static str,
) {
    let Ok(mut answers) = serve.await else { return };
    loop {
        tokio::select! {
            biased;
            () = end.sender.closed() => return,
            answer = answers.next() => match answer {
                Some(Ok(answer)) => end.sender.send(label.to_owned(), answer),
                Some(Err(_)) | None => return,
            },
        }
    }
}

impl Observer for Peers {
    fn applied(&self, through: Index, state: &State, events: &[Event]) {
        // As the real directory does, which learns no more than this.
        if events.iter().any(|event| event.kind.is_about_members()) {
            self.note(state);
        }
        if self.bugs.has(Bug::HistoryIsToldOtherwise) {
            self.tell_otherwise(through, events.to_vec());
        }
    }

    fn installed(&self, state: &State) {
        self.note(state);
    }
}

impl Transport for Peers {
    fn send(&self, messages: Vec<Message>) {
        // After the end nobody is there to be told.
        let _ = self.fuse.pass(Step::Send, || {
            for mut message in messages {
                alter(&mut message, &self.bugs);
                let to = HostId::Coordinator(message.to);
                let label = format!(
                    "{:?} t{} i{} c{} n{}",
                    message.get_msg_type(),
                    message.term,
                    message.index,
                    message.commit,
                    message.entries.len()
                );
                let registry = self.registry.clone();
                self.network.send(self.host(), to, &label, move || {
                    let message = message.clone();
                    registry.on(to, |node| async move {
                        // It has stopped.
                        let _ = node.raft().step(vec![message]).await;
                    });
                });
            }
        });
    }

    fn fetch(&self, fetch: Fetch) {
        let Fetch { from, index, into, done, .. } = fetch;
        let peers = self.clone();
        drop(self.runtime.spawn(async move {
            let fetched = timeout(FETCH_WITHIN, peers.fetch_parts(from, index)).await;
            let stored = match fetched {
                Ok(Ok((state, history))) => store(&into, index, &state, &history),
                Ok(Err(error)) => Err(error),
                Err(late) => Err(io::Error::other(late)),
            };
            done(stored);
        }));
    }
}

type Parts = (Vec<u8>, Vec<u8>);

impl Peers {
    async fn fetch_parts(&self, from: NodeId, index: Index) -> io::Result<Parts> {
        let (registry, to) = (self.registry.clone(), HostId::Coordinator(from.0));
        let (reply, parts) = oneshot::channel();
        let folder = self.folders.join(from.0.to_string());
        let outgoing = folder.join(format!("for-{}", self.this));
        let accept = move |end: End<io::Result<Parts>, ()>| {
            registry.on(to, |node| async move {
                let parts = read_parts(&node, &folder, outgoing, index).await;
                end.sender.send("snapshot".to_owned(), parts);
            });
        };
        let mut end = self.network.call::<(), _>(self.host(), to, "snapshot", accept);
        drop(self.runtime.spawn(async move {
            if let Ok(Some(received)) = end.receiver.next().await {
                // Too late.
                let _ = reply.send(received);
            }
        }));
        parts.await.map_err(io::Error::other)?
    }
}

async fn read_parts(
    node: &Coordinator,
    folder: &std::path::Path,
    outgoing: PathBuf,
    index: Index,
) -> io::Result<Parts> {
    let state = fs::read(folder.join("raft/snapshots").join(format!("snapshot-{index:020}")))?;
    node.history().copy_to(&outgoing).await.map_err(io::Error::other)?;
    Ok((state, fs::read(outgoing)?))
}

fn store(into: &std::path::Path, index: Index, state: &[u8], history: &[u8]) -> io::Result<()> {
    fs::create_dir_all(into)?;
    fs::write(into.join(format!("state-{index:020}")), state)?;
    fs::write(into.join(format!("history-{index:020}")), history)
}

/// Bugs: what arrives of an entry is not what was sent.
fn alter(message: &mut Message, bugs: &Bugs) {
    let (times, results) = (bugs.has(Bug::TimesChange), bugs.has(Bug::ResultsChange));
    if !times && !results {
        return;
    }
    for entry in message.mut_entries() {
        if entry.get_entry_type() != EntryType::EntryNormal {
            continue;
        }
        let Ok(mut command) = Command::decode(&entry.data) else { continue };
        match &mut command {
            Command::Submit(submit) if times => submit.at = submit.at.plus(1),
            Command::Finish(finish)
                if results && !finish.transient && finish.outcome.state != Final::Lost =>
            {
                finish.outcome.message = "changed".to_owned();
            }
            _ => continue,
        }
        entry.data = command.encode().into();
    }
}

/// The other members, as replication asks them.
pub(super) struct Others(pub(super) Peers);

impl Members for Others {
    fn others(&self) -> BTreeMap<NodeId, String> {
        self.0.roster.borrow().clone()
    }

    fn follow(&self) -> BoxStream<'static, BTreeMap<NodeId, String>> {
        WatchStream::new(self.0.roster.subscribe()).boxed()
    }

    fn watch_files(
        &self,
        node: NodeId,
    ) -> BoxFuture<'_, Result<Answers<peer::WatchFilesResponse>, NotGiven>> {
        let serve = |node: Coordinator| ready(Ok(node.watch_files()));
        let mut told = self.0.ask(node, "files", serve);
        if self.0.bugs.has(Bug::UnflushedCopiesCount) {
            told = told.map(|told| told.map(all_durable)).boxed();
        }
        ready(Ok(told)).boxed()
    }

    fn read_file(
        &self,
        node: NodeId,
        name: peer::FileName,
        offset: u64,
    ) -> BoxFuture<'_, Result<Answers<peer::ReadFileResponse>, NotGiven>> {
        let serve = move |node: Coordinator| async move { node.read_file(&name, offset).await };
        ready(Ok(self.0.ask(node, "file", serve))).boxed()
    }
}

fn all_durable(mut told: peer::WatchFilesResponse) -> peer::WatchFilesResponse {
    for file in &mut told.files {
        file.durable = file.length;
    }
    told
}
