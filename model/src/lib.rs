//! The lease protocol as a model small enough to look at every state of: a job is
//! never in two places, no stale word counts, and no job is lost.
//!
//! It repeats in small what the coordinator and the runner do and shares no code
//! with them, so whoever changes one of these changes this too:
//!
//! | here | there |
//! |---|---|
//! | [`state`] `Job`, `commands` | `coordinator/state/src/command/` |
//! | `leader` | `coordinator/src/dispatch/{session,sessions,leases,dispatcher}.rs` |
//! | `runner` | `runner/src/session/`, `runner/src/job/`, `runner/src/shim/limits.rs` |
//!
//! `docs/model.md` says what is left out and why that is safe.

mod action;
mod bug;
mod clocks;
mod commands;
mod leader;
mod model;
mod network;
pub mod properties;
mod recovery;
mod reduction;
mod runner;
pub mod state;

pub use self::{
    action::Action,
    bug::Bug,
    model::{LeaseModel, Size},
};
