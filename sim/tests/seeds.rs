//! The simulator as CI runs it: hundreds of seeds hold, a seed is the same run each time,
//! and every bug that can be switched on is found.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![allow(clippy::disallowed_methods, reason = "each seed runs in a process of its own")]

use std::process::{Command, Output};

use baton_sim::{bugs::Bug, faults::Fault};

/// Seeds of the run that must hold; `BATON_TEST_SEEDS` asks for more.
const SEEDS: u64 = 300;

fn sim(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_baton-sim")).args(args).output().unwrap()
}

fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

#[test]
fn hundreds_of_seeds_hold_and_every_kind_of_fault_happens() {
    let seeds = std::env::var("BATON_TEST_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let seeds = seeds.unwrap_or(SEEDS).max(SEEDS);
    let run = sim(&["run", "1", &seeds.to_string()]);
    assert!(run.status.success(), "{}{}", stdout(&run), String::from_utf8_lossy(&run.stderr));
    assert_eq!(stdout(&run).lines().count() as u64, seeds);
    for kind in Fault::KINDS {
        assert!(stdout(&run).contains(&format!(" x {kind}")), "{kind} did not happen");
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    for seed in ["11", "12", "13"] {
        let (once, again) = (sim(&["one", seed]), sim(&["one", seed]));
        assert!(once.status.success());
        assert_eq!(stdout(&once), stdout(&again));
        let (once, again) = (sim(&["show", seed]), sim(&["show", seed]));
        assert!(once.stderr == again.stderr, "seed {seed}: byte for byte");
    }
}

#[test]
fn every_bug_that_is_switched_on_is_found_by_an_invariant_that_it_breaks() {
    let found = sim(&["find"]);
    assert!(found.status.success(), "{}", stdout(&found));
    let rows: Vec<_> = stdout(&found).lines().collect();
    assert_eq!(rows.len(), Bug::ALL.len());
    for (row, bug) in rows.iter().zip(Bug::ALL) {
        let mut rows = bug.found_by().iter().map(|name| format!("| `{bug}` | {name} | "));
        assert!(rows.any(|begin| row.starts_with(&begin)), "{row}");
    }
}

#[test]
fn a_failure_names_the_command_that_shows_it() {
    let run = sim(&["run", "1", "300", "--bug", "keys-are-forgotten"]);
    assert!(!run.status.success());
    let last = stdout(&run).lines().last().unwrap();
    let command = last.split_once("-- ").unwrap().1;
    let shown = sim(&command.split(' ').collect::<Vec<_>>());
    assert!(!shown.status.success(), "{command}");
    assert!(stdout(&run).contains(stdout(&shown).trim()), "{command}");
}
