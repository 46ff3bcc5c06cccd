//! Every state of small clusters.

use baton_model::{LeaseModel, Size};
use stateright::{Checker as _, Model as _};

const SMALL: Size = Size { jobs: 1, runners: 1, attempts: 2, ttl: 3, unread: 1, faults: 0 };

fn check(size: Size) {
    let checker = LeaseModel { size, bug: None }.checker().threads(2).spawn_bfs().join();
    let (states, depth) = (checker.unique_state_count(), checker.max_depth());
    println!("{size:?}: {states} states, at most {depth} steps away");
    checker.assert_properties();
}

#[test]
fn one_runner_and_one_fault() {
    check(Size { faults: 1, ..SMALL });
}

#[test]
fn two_runners_that_are_slow_but_do_not_fail() {
    check(Size { runners: 2, ..SMALL });
}
