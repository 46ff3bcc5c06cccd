//! The other members, as replication talks to them: over the network, or in a
//! simulation over none.

use std::collections::BTreeMap;

use baton_proto::peer;
use baton_state::NodeId;
use futures::{future::BoxFuture, stream::BoxStream};

/// Another member did not give what it was asked for. Says why, for the log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotGiven(pub String);

/// What comes of a call, as it comes. Whoever drops it ends the call.
pub type Answers<T> = BoxStream<'static, Result<T, NotGiven>>;

/// The other members.
pub trait Members: Send + Sync {
    /// Who they are now, and where each is.
    fn others(&self) -> BTreeMap<NodeId, String>;

    /// As [`Members::others`], at once and whenever it changes. Ends when it is not
    /// known any more who they are.
    fn follow(&self) -> BoxStream<'static, BTreeMap<NodeId, String>>;

    /// Asks one what it has: `serve::watch_files` there.
    fn watch_files(
        &self,
        node: NodeId,
    ) -> BoxFuture<'_, Result<Answers<peer::WatchFilesResponse>, NotGiven>>;

    /// Asks one for a file from an offset on: `serve::read_file` there.
    fn read_file(
        &self,
        node: NodeId,
        name: peer::FileName,
        offset: u64,
    ) -> BoxFuture<'_, Result<Answers<peer::ReadFileResponse>, NotGiven>>;
}
