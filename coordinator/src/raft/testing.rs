//! What tests need of a node that is alone.

use std::{path::Path, sync::Arc};

use baton_state::{Command, Level, Member, NodeId, Timestamp, command::FoundCluster};
use raft::eraftpb::Message;
use tokio::runtime::Handle;

use super::{Beginning, Fetch, Options, RaftError, RaftHandle, Transport};
use crate::environment::Environment;

/// Small, so that little work fills several files of the log.
pub(crate) const FILE: u64 = 8 * 1024;

/// There are no others.
struct Nobody;

impl Transport for Nobody {
    fn send(&self, messages: Vec<Message>) {
        panic!("a node of one sends nothing: {messages:?}");
    }

    fn fetch(&self, _: Fetch) {
        panic!("a node of one fetches nothing");
    }
}

pub(crate) fn member(node: u64) -> Member {
    Member {
        instance: format!("instance {node}"),
        address: format!("host{node}:7700"),
        peer_address: format!("host{node}:7701"),
        version: "1".to_owned(),
        level: Level::NEWEST,
    }
}

pub(crate) fn founding() -> Command {
    Command::FoundCluster(FoundCluster {
        cluster_id: "cluster".to_owned(),
        node: NodeId(1),
        member: member(1),
        at: Timestamp(1),
    })
}

/// Starts a node with small files.
pub(crate) fn start(options: Options) -> Result<RaftHandle, RaftError> {
    super::start(options, FILE)
}

/// A cluster of one.
pub(crate) fn options(dir: &Path, snapshot_every: u64) -> Options {
    Options {
        node_id: 1,
        dir: dir.to_owned(),
        snapshot_every,
        beginning: Beginning::Found(Box::new(founding())),
        history: None,
        observers: Vec::new(),
        transport: Arc::new(Nobody),
        environment: Environment::system(),
        runtime: Handle::current(),
    }
}
