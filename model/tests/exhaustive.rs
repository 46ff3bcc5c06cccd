//! Every state of small clusters: what must hold, holds in each.

#![allow(clippy::print_stdout, reason = "what was found is worth reading")]

use baton_model::{LeaseModel, Size};
use stateright::{Checker as _, Model as _};

const SMALL: Size =
    Size { jobs: 1, runners: 1, attempts: 2, ttl: 3, unread: 1, terms: 1, faults: 0 };

fn check(size: Size) {
    let checker = LeaseModel { size, bug: None }.checker().threads(2).spawn_bfs().join();
    println!("{size:?}: {} states", checker.unique_state_count());
    checker.assert_properties();
}

#[test]
fn two_runners_under_two_leaders() {
    check(Size { runners: 2, terms: 2, ..SMALL });
}

#[test]
fn a_runner_that_is_cut_off_or_killed_under_two_leaders() {
    check(Size { terms: 2, faults: 1, ..SMALL });
}

#[test]
fn two_jobs_of_a_runner_that_is_cut_off_or_killed() {
    check(Size { jobs: 2, attempts: 1, faults: 1, ..SMALL });
}

#[test]
fn a_runner_that_is_cut_off_or_killed_again_under_two_leaders() {
    check(Size { attempts: 1, terms: 2, faults: 2, ..SMALL });
}

#[test]
fn a_longer_lease_under_two_leaders() {
    check(Size { ttl: 5, terms: 2, ..SMALL });
}
