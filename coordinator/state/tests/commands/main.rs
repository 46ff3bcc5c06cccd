//! Each command by example, and the answers to "why does it wait?".

#![allow(clippy::expect_used, reason = "a test fails by a panic")]

mod cancel;
mod events;
mod evict;
mod explain;
mod finish;
mod fixture;
mod grant;
mod lose_lease;
mod mark_unreachable;
mod members;
mod priority;
mod queues;
mod refound;
mod register_runner;
mod remove_runner;
mod scheduling;
mod set_job_token_key;
mod snapshot;
#[path = "../support/spec.rs"]
mod spec;
mod start;
mod submit;
mod tick;
