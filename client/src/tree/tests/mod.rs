//! Trees, seen from outside.

mod building;
mod chunks;
mod folder;
mod hostile;
mod roundtrip;
mod sending;
