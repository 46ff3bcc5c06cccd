//! Members that talk over loopback. Only the Raft node is not real: it records.

mod fixtures;
mod links;
mod served;
mod snapshots;
