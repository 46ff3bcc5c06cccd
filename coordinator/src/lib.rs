//! Baton's coordinator: replicates jobs, grants leases, keeps output and history.

mod address;
mod auth;
pub mod backup;
mod config;
mod connections;
mod contents;
mod convert;
mod coordinator;
mod core;
mod disk;
pub mod dispatch;
pub mod environment;
mod errors;
pub mod files;
mod fleet;
mod grpc;
pub mod history;
mod identity;
mod jobs;
mod join;
mod leadership;
mod members;
mod peers;
mod problems;
mod queues;
pub mod raft;
mod reach;
mod replication;
mod retention;
mod roster;
mod runners;
pub mod simulation;
mod sources;
mod steady;
mod step_down;
mod this_node;
mod trees;
mod uploads;
mod watchers;

pub use self::{
    address::{AddressError, AddressProblem},
    config::{Config, next_port},
    convert::check_spec,
    coordinator::{Coordinator, Error},
    dispatch::Timing,
    identity::member_of,
    join::JoinError,
    retention::Retention,
};
