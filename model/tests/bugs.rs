//! The checker finds what is wrong when a rule of the protocol is left out.

use baton_model::{Bug, LeaseModel, Size, property};
use stateright::{Checker as _, HasDiscoveries, Model as _};

const SMALL: Size = Size { jobs: 1, runners: 1, attempts: 2, ttl: 3, unread: 1, faults: 1 };

/// Leaves a rule out and looks for a way to break a property.
fn breaks(bug: Bug, size: Size, property: &'static str) {
    let stop = HasDiscoveries::AnyOf([property].into());
    let model = LeaseModel { size, bug: Some(bug) };
    let checker = model.checker().finish_when(stop).spawn_bfs().join();
    let states = checker.unique_state_count();
    let path = checker.assert_any_discovery(property).into_actions();
    println!("{bug:?}: {} steps, {states} states: {property}: {path:?}", path.len());
}

#[test]
fn without_fencing_a_stale_report_counts() {
    breaks(Bug::NoFencing, SMALL, property::FENCED);
    breaks(Bug::NoFencing, SMALL, property::ENDS_ONCE);
}

#[test]
fn a_lease_dated_by_the_answer_outlives_itself() {
    breaks(Bug::DatedByAnswer, SMALL, property::NOT_GIVEN_AWAY);
}

#[test]
fn a_lease_dated_by_its_assignment_outlives_itself() {
    breaks(Bug::DatedByAssignment, SMALL, property::NOT_GIVEN_AWAY);
}

#[test]
fn a_new_leader_that_counts_from_the_grant_gives_a_healthy_job_away() {
    breaks(Bug::NewLeaderCountsFromGrant, SMALL, property::NOT_GIVEN_AWAY);
}

#[test]
fn a_leader_that_does_not_ask_whether_it_leads_renews_what_is_given_away() {
    breaks(Bug::NoReadBarrier, SMALL, property::NOT_GIVEN_AWAY);
}

#[test]
fn a_limit_without_a_margin_is_too_long_for_a_slow_clock() {
    breaks(Bug::NoMargin, SMALL, property::NOT_GIVEN_AWAY);
}

#[test]
fn a_job_given_away_when_its_stream_breaks_still_runs() {
    breaks(Bug::LostWithStream, SMALL, property::NOT_GIVEN_AWAY);
}

#[test]
fn a_lease_that_is_renewed_while_it_is_given_away_still_runs() {
    breaks(Bug::RenewedWhileGivenAway, SMALL, property::NOT_GIVEN_AWAY);
}

#[test]
fn a_hello_of_before_that_takes_over_gives_a_healthy_job_away() {
    breaks(Bug::OldHelloTakesOver, Size { faults: 2, ..SMALL }, property::NOT_GIVEN_AWAY);
}

#[test]
fn a_restarted_runner_that_starts_undated_runs_what_was_given_away() {
    breaks(Bug::StartedUndated, SMALL, property::NOT_GIVEN_AWAY);
}

#[test]
fn a_lease_that_is_never_taken_away_loses_a_job() {
    let size = Size { runners: 2, faults: 0, ..SMALL };
    breaks(Bug::NeverTakenAway, size, property::ENDS);
}

#[test]
fn an_end_that_is_reported_only_once_is_lost() {
    breaks(Bug::ReportedOnce, SMALL, property::ENDS);
}
