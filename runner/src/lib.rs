//! Baton's runner: takes leases from a coordinator, runs the jobs, sends their
//! output back.

mod caches;
mod clock;
mod collect;
mod config;
mod content;
mod environment;
pub mod executor;
mod health;
mod identity;
mod job;
mod monitor;
mod network;
mod notes;
mod retry;
mod runner;
mod session;
mod shim;
pub mod source;
mod untrusted;

use std::{ffi::OsString, process::ExitCode};

pub use self::{
    collect::{Chosen, Leaves},
    config::Config,
    content::{ContentStore, Hold},
    environment::{Blocking, Clock, Environment},
    network::{Answers, Link, Network, Requests},
    runner::{Error, Runner},
    source::git::{GitConfig, GitCredential, SshAccess},
};

/// Becomes one of the processes that outlive the runner when the arguments are those of
/// one, and returns its exit code when the job is over. Any other arguments: None, at
/// once.
///
/// `PROGRAM shim DIR` watches over the attempt in DIR. Before DIR, `--disk-patience
/// SECONDS` may say how long a full disk is waited for when the job has ended, other
/// than ten minutes. `PROGRAM monitor DIR` is started by a shim.
///
/// Must be the first thing `main` does: the shim closes every file it inherited and
/// must be alone in its process.
pub fn main_if_asked(args: impl IntoIterator<Item = OsString>) -> Option<ExitCode> {
    let mut args = args.into_iter().skip(1);
    match args.next()?.to_str()? {
        shim::ARGUMENT => Some(shim::main(args)),
        monitor::ARGUMENT => Some(monitor::main()),
        _ => None,
    }
}
