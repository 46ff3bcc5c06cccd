//! Listens to what each other member has, for as long as it is one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use baton_proto::peer;
use baton_state::NodeId;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    Shared,
    wire::{reason, state_from_proto},
};
use crate::peers::Directory;

const RETRY: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// Keeps one listener for each other member.
pub(super) async fn run(shared: Arc<Shared>, directory: Arc<Directory>) {
    let mut peers = directory.peers();
    let mut listening: BTreeMap<NodeId, (String, CancellationToken)> = BTreeMap::new();
    let mut listeners = JoinSet::new();
    loop {
        let now = peers.borrow_and_update().clone();
        listening.retain(|node, (address, until)| {
            let stays = now.get(node).is_some_and(|peer| peer.address == *address);
            if !stays {
                until.cancel();
                shared.view.forget(*node);
            }
            stays
        });
        for (node, peer) in now {
            listening.entry(node).or_insert_with(|| {
                let until = CancellationToken::new();
                shared.view.begin(node);
                let listen = listen(Arc::clone(&shared), Arc::clone(&directory), node);
                listeners.spawn(until.clone().run_until_cancelled_owned(listen));
                (peer.address, until)
            });
        }
        tokio::select! {
            changed = peers.changed() => if changed.is_err() {
                return;
            },
            // One that was cancelled.
            Some(_) = listeners.join_next() => {}
        }
    }
}

/// Listens to one member, again and again.
async fn listen(shared: Arc<Shared>, directory: Arc<Directory>, node: NodeId) {
    let mut wait = RETRY;
    loop {
        let mut listed = false;
        let ended = listen_once(&shared, &directory, node, &mut listed).await;
        shared.view.gone(node);
        if listed {
            wait = RETRY;
            info!(%node, ended, "a member tells no more of its files");
        } else {
            debug!(%node, ended, "a member does not tell of its files");
        }
        tokio::select! {
            () = sleep(wait) => {}
            () = shared.view.wants_retry() => {}
        }
        wait = (wait * 2).min(RETRY_MOST);
    }
}

/// Gives why it ended.
async fn listen_once(
    shared: &Shared,
    directory: &Directory,
    node: NodeId,
    listed: &mut bool,
) -> String {
    let Some(peer) = directory.peer(node) else { return "it is no member any more".to_owned() };
    let request = peer::WatchFilesRequest { hello: Some(directory.hello(node)) };
    let mut told = match peer.control().watch_files(request).await {
        Ok(told) => told.into_inner(),
        Err(status) => return reason(&status),
    };
    shared.view.begin(node);
    loop {
        let response = match told.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return "the member ended the call".to_owned(),
            Err(status) => return reason(&status),
        };
        let files: Vec<_> = response.files.iter().filter_map(state_from_proto).collect();
        let names: Vec<_> =
            files.iter().filter(|(_, has)| has.is_some()).map(|(n, _)| *n).collect();
        shared.view.tell(node, files);
        shared.told.put(names);
        if response.listed {
            *listed = true;
            shared.view.listed(node);
        }
    }
}
