//! The other coordinators: who they are, what is sent to them, and what they ask.
//!
//! ```text
//! raft ── Network::send ──► Link per member ── Peer.Raft ──► PeerService ─► Call ─► raft
//! raft ── Network::fetch ─► snapshot::fetch ◄─ Peer.Snapshot ── Outgoing
//! ```
//!
//! `directory.rs` knows who they are, `files.rs` asks them for files, `link.rs` sends and `calls.rs` takes what Raft
//! says, `snapshot/` transfers snapshots. Nothing here decides anything, and whoever
//! sends never waits: what cannot be sent is dropped, and Raft repeats it.
//!
//! Control (Raft, status) and bulk (snapshots, files) go over connections of their
//! own, so that a large file never holds up a heartbeat.

mod calls;
mod directory;
mod files;
mod link;
mod node;
mod retry;
mod serve;
mod snapshot;
#[cfg(test)]
mod tests;
mod transport;
mod twins;

pub(crate) use self::{
    calls::Calls,
    directory::{Directory, This},
    serve::{PeerService, serve},
    snapshot::Outgoing,
    transport::Network,
    twins::Twins,
};
