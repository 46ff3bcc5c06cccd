//! `baton-sim`: runs seeds of the simulator, each in a process of its own, and says of
//! each that failed how to see it again.

mod chance;

use std::{
    process::{Command, ExitCode},
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use baton_sim::{
    bugs::{Bug, Bugs},
    world,
};
use clap::{Parser, Subcommand};

/// Simulates Baton's clusters with faults, from seeds.
#[derive(Parser)]
#[command(after_help = "Example:\n  baton-sim run 1 500\n  baton-sim show 42 --bug no-fencing")]
struct Args {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run seeds from one to another; fails with the first that fails.
    Run {
        /// The first seed.
        from: u64,
        /// The last one.
        to: u64,
        /// Switch on a bug.
        #[arg(long)]
        bug: Vec<Bug>,
        /// Runs at once.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// Run one seed and print everything that happens.
    Show {
        /// The seed.
        seed: u64,
        /// Switch on a bug.
        #[arg(long)]
        bug: Vec<Bug>,
    },
    /// Run one seed and print what came of it in one line.
    One {
        /// The seed.
        seed: u64,
        /// Switch on a bug.
        #[arg(long)]
        bug: Vec<Bug>,
    },
    /// List the bugs that can be switched on.
    Bugs,
}

fn main() -> ExitCode {
    match Args::parse().command {
        Verb::Run { from, to, bug, jobs } => run(from, to, &bug, jobs),
        Verb::Show { seed, bug } => one(seed, bug, true),
        Verb::One { seed, bug } => one(seed, bug, false),
        Verb::Bugs => {
            Bug::ALL.iter().for_each(|bug| println!("{bug}"));
            ExitCode::SUCCESS
        }
    }
}

fn one(seed: u64, bugs: Vec<Bug>, shown: bool) -> ExitCode {
    let bugs: Bugs = bugs.into_iter().collect();
    match world::run(seed, &bugs, shown) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(failure) => {
            println!("{failure}");
            ExitCode::FAILURE
        }
    }
}

/// Each seed in a process of its own: what tokio draws at random depends on all that
/// happened in the process before.
fn run(from: u64, to: u64, bugs: &[Bug], jobs: usize) -> ExitCode {
    let (next, failed) = (AtomicU64::new(from), AtomicU64::new(0));
    let flags: Vec<String> = bugs.iter().map(|bug| format!("--bug={bug}")).collect();
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > to || failed.load(Ordering::Relaxed) > 0 {
                return;
            }
            let ended = std::env::current_exe().and_then(|this| {
                Command::new(this).arg("one").arg(seed.to_string()).args(&flags).output()
            });
            match ended {
                Ok(ended) if ended.status.success() => {
                    print!("{}", String::from_utf8_lossy(&ended.stdout));
                }
                Ok(ended) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    print!("{}", String::from_utf8_lossy(&ended.stdout));
                    eprint!("{}", String::from_utf8_lossy(&ended.stderr));
                    println!("see it again with: baton-sim show {seed} {}", flags.join(" "));
                }
                Err(error) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    eprintln!("baton-sim: cannot run seed {seed}: {error}");
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(work);
        }
    });
    match failed.into_inner() {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
