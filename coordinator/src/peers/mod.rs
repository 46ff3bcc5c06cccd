//! The other coordinators: who they are, what is sent to them, and what they ask.
//!
//! ```text
//! raft ── Transport::send ─► link per member ── Peer.Raft ─► serve ── RaftHandle::step ─► raft
//! raft ── Transport::fetch ─► snapshot ◄─ Peer.Snapshot ── the member that announced it
//! ```
//!
//! Control (Raft, status) and bulk (snapshots, files) go over connections of their
//! own, so that a large file never holds up a heartbeat.

mod calls;
mod directory;
mod link;
mod node;
mod retry;
mod serve;
mod snapshot;
#[cfg(test)]
mod tests;
mod transport;

pub(crate) use self::{
    calls::Calls,
    directory::{Directory, This},
    serve::{PeerService, serve},
    snapshot::Outgoing,
    transport::Network,
};
