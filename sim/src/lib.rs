//! A deterministic simulator: the real state machine, Raft, dispatch, files, history and
//! runner code, on simulated clocks, disks and networks, driven by a seed. The same
//! seed gives the same history. See docs/faults.md.

// A simulator owns what the rest of the program may not ask for.
#![allow(clippy::disallowed_methods)]

pub mod bugs;
pub mod clients;
pub mod coordinator;
pub mod disk;
pub mod facts;
pub mod faults;
pub mod fuse;
pub mod host;
pub mod invariants;
pub mod machine;
pub mod network;
pub mod registry;
pub mod runner;
pub mod shown;
pub mod trace;
pub mod world;
