//! `baton-sim`: runs seeds of the simulator, each in a process of its own, and says of
//! each that failed how to see it again.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it talks to whoever runs it")]
#![allow(clippy::disallowed_methods, reason = "it starts itself again for each seed")]

mod chance;

use std::{
    env, io,
    process::{Command, ExitCode, Output},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use baton_sim::{bugs::Bug, world};
use clap::{Parser, Subcommand};

/// Simulates Baton's clusters with faults, from seeds.
#[derive(Parser)]
#[command(
    after_help = "Examples:\n  baton-sim run 1 500            seeds 1 to 500\n  baton-sim show 42              \
                  everything that happens with seed 42\n  baton-sim find no-fencing      how many \
                  seeds it takes to find this bug"
)]
struct Args {
    #[command(subcommand)]
    command: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Run seeds from one to another, up to the first that fails.
    Run {
        /// The first seed.
        from: u64,
        /// The last one.
        to: u64,
        #[command(flatten)]
        how: How,
    },
    /// Run one seed and print everything that happens, on standard error.
    Show {
        /// The seed.
        seed: u64,
        #[command(flatten)]
        how: How,
    },
    /// Run one seed and print what came of it.
    One {
        /// The seed.
        seed: u64,
        #[command(flatten)]
        how: How,
    },
    /// Switch on one bug after the other, and say which seed finds it by which invariant,
    /// as rows of a table; fails when none does, or when something else fails first.
    Find {
        /// Which; all of them when none is named. `baton-sim bugs` lists them.
        bugs: Vec<Bug>,
        /// Seeds tried for each.
        #[arg(long, default_value_t = 300)]
        most: u64,
        /// Runs at once.
        #[arg(long, default_value_t = 2)]
        jobs: usize,
    },
    /// List the bugs that can be switched on.
    Bugs,
}

#[derive(clap::Args)]
struct How {
    /// Switch on a bug; may be given several times.
    #[arg(long)]
    bug: Vec<Bug>,
    /// Runs at once, where there are several.
    #[arg(long, default_value_t = 2)]
    jobs: usize,
}

fn main() -> ExitCode {
    match Args::parse().command {
        Verb::Run { from, to, how } => run(from, to, &how),
        Verb::Show { seed, how } => one(seed, how, true),
        Verb::One { seed, how } => one(seed, how, false),
        Verb::Find { bugs, most, jobs } => find(&bugs, most, jobs),
        Verb::Bugs => {
            Bug::ALL.iter().for_each(|bug| println!("{bug}"));
            ExitCode::SUCCESS
        }
    }
}

fn one(seed: u64, how: How, shown: bool) -> ExitCode {
    match world::run(seed, &how.bug.into_iter().collect(), shown) {
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

fn run(from: u64, to: u64, how: &How) -> ExitCode {
    let failed = first_failure(from, to, how, |report| print!("{report}"));
    let Some((seed, output)) = failed else { return ExitCode::SUCCESS };
    print!("{}", text(&output.stdout));
    eprint!("{}", text(&output.stderr));
    let flags: String = how.bug.iter().map(|bug| format!(" --bug {bug}")).collect();
    println!("see it again with: cargo run -p baton-sim -- show {seed}{flags}");
    ExitCode::FAILURE
}

fn find(bugs: &[Bug], most: u64, jobs: usize) -> ExitCode {
    let bugs = if bugs.is_empty() { &Bug::ALL } else { bugs };
    let mut code = ExitCode::SUCCESS;
    for bug in bugs {
        let Some((seed, output)) = first_failure(1, most, &How { bug: vec![*bug], jobs }, |_| {})
        else {
            println!("{bug}: not found by {most} seeds");
            code = ExitCode::FAILURE;
            continue;
        };
        let said = text(&output.stdout);
        match broken(&said).filter(|name| bug.found_by().contains(name)) {
            Some(name) => println!("| `{bug}` | {name} | {seed} |"),
            None => {
                println!("{bug}: not found; seed {seed} fails otherwise:");
                print!("{said}{}", text(&output.stderr));
                code = ExitCode::FAILURE;
            }
        }
    }
    code
}

/// The name of the invariant that a [`world::Failure`] says was broken.
fn broken(said: &str) -> Option<&str> {
    let (_, what) = said.split_once(" s: ")?;
    what.split_once(": ").map(|(name, _)| name)
}

/// Runs seeds until one fails, each in a process of its own: what tokio draws at random
/// depends on all that happened in its process before. Gives the first that failed.
fn first_failure(
    from: u64,
    to: u64,
    how: &How,
    passed: impl Fn(&str) + Sync,
) -> Option<(u64, Output)> {
    let (next, stop) = (AtomicU64::new(from), AtomicBool::new(false));
    let failed: Mutex<Option<(u64, Output)>> = Mutex::new(None);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed > to {
                return;
            }
            let output = in_a_process(seed, &how.bug).unwrap_or_else(|error| {
                panic!("cannot start a process for seed {seed}: {error}");
            });
            if output.status.success() {
                passed(&text(&output.stdout));
                continue;
            }
            stop.store(true, Ordering::Relaxed);
            let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
            if failed.as_ref().is_none_or(|(before, _)| seed < *before) {
                *failed = Some((seed, output));
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..how.jobs.max(1) {
            scope.spawn(work);
        }
    });
    failed.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn in_a_process(seed: u64, bugs: &[Bug]) -> io::Result<Output> {
    let mut command = Command::new(env::current_exe()?);
    command.arg("one").arg(seed.to_string());
    for bug in bugs {
        command.arg("--bug").arg(bug.name());
    }
    command.output()
}

fn text(bytes: &[u8]) -> std::borrow::Cow<'_, str> {
    String::from_utf8_lossy(bytes)
}
