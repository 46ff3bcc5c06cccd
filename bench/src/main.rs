//! Measures a cluster that it starts itself, with the `baton` binary
//! beside this program. Every figure is printed with what it is compared to.
//!
//! ```text
//! cargo build --release && cargo run --release -p baton-bench -- start
//! cargo build --release && cargo run --release -p baton-bench -- sync
//! ```

// A measurement that cannot go on says so and ends; it reads the clock and prints.
#![allow(clippy::unwrap_used, clippy::expect_used)]
#![allow(clippy::disallowed_methods, clippy::print_stdout, clippy::print_stderr)]

mod baseline;
mod failover;
mod jobs;
mod memory;
mod overhead;
mod start;
mod sync;

use clap::{Parser, Subcommand};

/// Measures Baton on this machine.
#[derive(Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand)]
enum What {
    /// From submission to the start of the job's process, on an idle cluster
    Start {
        /// How many jobs, one after the other
        #[arg(long, default_value_t = 500)]
        jobs: usize,
    },
    /// Memory of an idle coordinator and runner, and after many finished jobs
    Memory {
        /// How many jobs
        #[arg(long, default_value_t = 100_000)]
        jobs: usize,
    },
    /// A command that does nothing, as a job and by hand: on this host, in a container and
    /// over SSH
    Overhead {
        /// How many times each
        #[arg(long, default_value_t = 50)]
        times: usize,
    },
    /// From SIGKILL of the leader of three to the next lease
    Failover {
        /// How many times
        #[arg(long, default_value_t = 20)]
        tries: usize,
    },
    /// Jobs a second, from the first submission to the last end
    Jobs {
        /// How many jobs
        #[arg(long, default_value_t = 10_000)]
        jobs: usize,
        /// Slots of the one runner
        #[arg(long, default_value_t = 8)]
        slots: u32,
    },
    /// Bytes and seconds of bringing folders, beside rsync over SSH
    Sync,
}

#[tokio::main]
async fn main() {
    match Arguments::parse().what {
        What::Start { jobs } => start::measure(jobs).await,
        What::Memory { jobs } => memory::measure(jobs).await,
        What::Overhead { times } => overhead::measure(times).await,
        What::Failover { tries } => failover::measure(tries).await,
        What::Jobs { jobs, slots } => jobs::measure(jobs, slots).await,
        What::Sync => sync::measure().await,
    }
}
