//! What tests need of a node that is alone.

use std::{path::Path, sync::Arc};

use baton_state::{Command, Level, Member, NodeId, Timestamp, command::FoundCluster};
use raft::eraftpb::Message;

use super::{Beginning, Fetch, Options, Transport};
use crate::environment::Environment;

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

/// A cluster of one.
pub(crate) fn options(dir: &Path, snapshot_every: u64) -> Options {
    Options {
        node_id: 1,
        dir: dir.to_owned(),
        snapshot_every,
        log_file_bytes: 1024 * 1024,
        beginning: Beginning::Found(Box::new(founding())),
        history: None,
        observers: Vec::new(),
        transport: Arc::new(Nobody),
        environment: Environment::system(),
    }
}
