//! The checker finds what is wrong when a rule of the protocol is left out.

#![allow(
    clippy::print_stdout,
    clippy::expect_used,
    reason = "a test fails by a panic, and what was found is worth reading"
)]

use baton_model::{Bug, LeaseModel, Size, properties};
use stateright::{Checker as _, HasDiscoveries, Model as _};

const SMALL: Size =
    Size { jobs: 1, runners: 1, attempts: 2, ttl: 3, unread: 1, terms: 2, faults: 1 };

/// No counterexample has as many steps.
const DEEPEST: usize = 20;

/// Leaves a rule out and looks for the shortest way to break a property.
fn breaks(bug: Bug, size: Size, property: &'static str) {
    let model = LeaseModel { size, bug: Some(bug) };
    // The checker would stop soon after the first find, and not with the shortest one.
    let found = (1..DEEPEST).find_map(|depth| {
        let stop = HasDiscoveries::AnyOf([property].into());
        let checker = model.clone().checker().target_max_depth(depth).finish_when(stop);
        checker.spawn_bfs().join().discovery(property)
    });
    let steps = found.expect("the checker finds it").into_actions();
    println!("{bug:?} breaks \"{property}\" in {} steps: {steps:?}", steps.len());
}

#[test]
fn without_fencing_a_stale_report_counts() {
    breaks(Bug::NoFencing, SMALL, properties::FENCED);
    breaks(Bug::NoFencing, SMALL, properties::ENDS_ONCE);
}

#[test]
fn a_lease_dated_by_the_answer_outlives_itself() {
    breaks(Bug::DatedByAnswer, SMALL, properties::NOT_GIVEN_AWAY);
}

#[test]
fn a_lease_dated_by_its_assignment_outlives_itself() {
    breaks(Bug::DatedByAssignment, SMALL, properties::NOT_GIVEN_AWAY);
}

#[test]
fn a_new_leader_that_counts_from_the_grant_gives_a_healthy_job_away() {
    breaks(Bug::NewLeaderCountsFromGrant, SMALL, properties::NOT_GIVEN_AWAY);
}

#[test]
fn a_leader_that_does_not_ask_whether_it_leads_renews_what_is_given_away() {
    breaks(Bug::NoReadBarrier, SMALL, properties::NOT_GIVEN_AWAY);
}

#[test]
fn a_limit_without_a_margin_is_too_long_for_a_slow_clock() {
    breaks(Bug::NoMargin, SMALL, properties::NOT_GIVEN_AWAY);
}

#[test]
fn a_job_given_away_when_its_stream_breaks_still_runs() {
    breaks(Bug::LostWithStream, SMALL, properties::NOT_GIVEN_AWAY);
    breaks(Bug::LostWithStream, Size { runners: 2, ..SMALL }, properties::EXCLUSIVE);
}

#[test]
fn a_lease_that_is_renewed_while_it_is_given_away_still_runs() {
    breaks(Bug::RenewedWhileGivenAway, SMALL, properties::NOT_GIVEN_AWAY);
}

#[test]
fn a_hello_of_before_that_takes_over_gives_a_healthy_job_away() {
    breaks(Bug::OldHelloTakesOver, Size { faults: 2, ..SMALL }, properties::NOT_GIVEN_AWAY);
}

#[test]
fn a_restarted_runner_that_starts_undated_runs_what_was_given_away() {
    breaks(Bug::StartedUndated, SMALL, properties::NOT_GIVEN_AWAY);
}

#[test]
fn a_lease_that_is_never_taken_away_loses_a_job() {
    let size = Size { runners: 2, faults: 0, ..SMALL };
    breaks(Bug::NeverTakenAway, size, properties::ENDS);
}

#[test]
fn an_end_that_is_reported_only_once_is_lost() {
    breaks(Bug::ReportedOnce, SMALL, properties::ENDS);
}
