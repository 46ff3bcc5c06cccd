//! Baton's runner: takes leases from a coordinator, runs the jobs, sends their
//! output back.

mod clock;
mod config;
mod environment;
pub mod executor;
mod identity;
mod job;
mod network;
mod retry;
mod runner;
mod session;
pub mod shim;
pub mod source;
mod untrusted;

pub use self::{
    config::Config,
    environment::{Blocking, Clock, Environment},
    network::{Answers, Link, Network, Requests},
    runner::{Error, Runner},
    source::git::{GitConfig, GitCredential, SshAccess},
};
