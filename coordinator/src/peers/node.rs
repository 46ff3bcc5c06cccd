//! What links and served calls need of this node, so that tests can do without one.

use baton_state::{Index, NodeId};
use raft::eraftpb::Message;

use crate::raft::{ProposeError, RaftHandle, Status};

/// The Raft node of this coordinator. Clones are the same one.
pub(crate) trait Node: Clone + Send + Sync + 'static {
    /// As [`RaftHandle::step`].
    fn step(&self, messages: Vec<Message>)
    -> impl Future<Output = Result<(), ProposeError>> + Send;

    /// As [`RaftHandle::kept`].
    fn kept(&self, node: NodeId) -> impl Future<Output = Result<Index, ProposeError>> + Send;

    /// As [`RaftHandle::unreachable`].
    fn unreachable(&self, node: NodeId);

    /// Where it stands.
    fn status(&self) -> Status;
}

impl Node for RaftHandle {
    async fn step(&self, messages: Vec<Message>) -> Result<(), ProposeError> {
        RaftHandle::step(self, messages).await
    }

    async fn kept(&self, node: NodeId) -> Result<Index, ProposeError> {
        RaftHandle::kept(self, node).await
    }

    fn unreachable(&self, node: NodeId) {
        RaftHandle::unreachable(self, node);
    }

    fn status(&self) -> Status {
        RaftHandle::status(self).borrow().clone()
    }
}
