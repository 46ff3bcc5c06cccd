//! Listens to what each other member has, for as long as it is one.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use baton_state::NodeId;
use futures::StreamExt as _;
use tokio::{task::JoinSet, time::sleep};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use super::{
    Shared,
    members::{Members, NotGiven},
    wire::state_from_proto,
};

const RETRY: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// Keeps one listener for each other member.
pub(super) async fn run(shared: Arc<Shared>, members: Arc<dyn Members>) {
    let mut others = members.follow();
    let mut listening: BTreeMap<NodeId, (String, CancellationToken)> = BTreeMap::new();
    let mut listeners = JoinSet::new();
    loop {
        let now = tokio::select! {
            biased;
            now = others.next() => match now {
                Some(now) => now,
                None => return,
            },
            // One that was cancelled.
            Some(_) = listeners.join_next() => continue,
        };
        listening.retain(|node, (address, until)| {
            let stays = now.get(node) == Some(address);
            if !stays {
                until.cancel();
                shared.view.forget(*node);
            }
            stays
        });
        for (node, address) in now {
            listening.entry(node).or_insert_with(|| {
                let until = CancellationToken::new();
                shared.view.begin(node);
                let listen = listen(Arc::clone(&shared), Arc::clone(&members), node);
                listeners.spawn(until.clone().run_until_cancelled_owned(listen));
                (address, until)
            });
        }
    }
}

/// Listens to one member, again and again.
async fn listen(shared: Arc<Shared>, members: Arc<dyn Members>, node: NodeId) {
    let mut wait = RETRY;
    loop {
        let mut listed = false;
        let ended = listen_once(&shared, &*members, node, &mut listed).await;
        if listed {
            // It may be back at once, with all that this node lacks.
            shared.view.begin(node);
            wait = RETRY;
            info!(%node, %ended, "a member tells no more of its files");
        } else {
            shared.view.gone(node);
            debug!(%node, %ended, "a member does not tell of its files");
        }
        tokio::select! {
            biased;
            () = sleep(wait) => {}
            () = shared.view.wants_retry() => {}
        }
        wait = (wait * 2).min(RETRY_MOST);
    }
}

/// Gives why it ended.
async fn listen_once(
    shared: &Shared,
    members: &dyn Members,
    node: NodeId,
    listed: &mut bool,
) -> NotGiven {
    let mut told = match members.watch_files(node).await {
        Ok(told) => told,
        Err(refused) => return refused,
    };
    shared.view.begin(node);
    loop {
        let response = match told.next().await {
            Some(Ok(response)) => response,
            None => return NotGiven("the member ended the call".to_owned()),
            Some(Err(refused)) => return refused,
        };
        let files: Vec<_> = response.files.iter().filter_map(state_from_proto).collect();
        let names: Vec<_> =
            files.iter().filter(|(_, has)| has.is_some()).map(|(n, _)| *n).collect();
        shared.view.tell(node, files);
        if *listed { &shared.told } else { &shared.listed }.put(names);
        if response.listed {
            *listed = true;
            shared.view.listed(node);
        }
    }
}
