//! Baton's coordinator: replicates jobs, grants leases, keeps output and history.

mod auth;
mod convert;
mod coordinator;
mod disk;
pub mod dispatch;
pub mod environment;
mod errors;
pub mod files;
mod grpc;
pub mod history;
mod jobs;
mod peers;
pub mod raft;
mod replication;
mod retention;
mod runners;
mod uploads;
mod watchers;

pub use self::{
    convert::check_spec,
    coordinator::{Config, Coordinator, Error},
    dispatch::Timing,
    retention::Retention,
};
