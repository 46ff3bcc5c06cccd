//! Snapshots from one member to another, beside Raft, which only announces them: the
//! state machine's file, and a copy of the history that is at least as new. Both come
//! in pieces, from any offset on, and end with their length and BLAKE3.

mod fetch;
mod outgoing;
mod send;

pub(crate) use self::outgoing::Outgoing;
pub(super) use self::{
    fetch::{PATIENCE, Wanted, fetch},
    send::send,
};
