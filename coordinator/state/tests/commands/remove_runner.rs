//! Runners that are gone for good are forgotten.

use baton_state::{
    Command, Connection, EventKind, Refusal, Reply, Timestamp,
    command::{LossCause, RemoveRunner},
};

use crate::{
    fixture::{Fixture, attempts, id, request},
    spec,
};

fn gone() -> Fixture {
    let mut fixture = Fixture::with_runner();
    fixture.unreachable("r1");
    fixture
}

#[test]
fn an_unreachable_runner_without_leases_is_forgotten() {
    let mut fixture = gone();
    let removal = fixture.removal_of("r1");
    let name = "name of r1".to_owned();
    let removed = EventKind::RunnerRemoved { runner: id("r1"), name, by: String::new() };
    assert_eq!(fixture.accepted(Command::RemoveRunner(removal)), [removed]);
    assert!(fixture.state.runners().is_empty());
}

#[test]
fn one_that_answers_is_kept() {
    let mut fixture = Fixture::with_runner();
    let removal = Command::RemoveRunner(fixture.removal_of("r1"));
    assert_eq!(fixture.refused(removal), Refusal::RunnerOnline);
}

#[test]
fn one_that_holds_a_lease_is_kept_until_that_has_ended() {
    let (mut fixture, job, lease) = Fixture::with_lease(attempts(2));
    fixture.unreachable("r1");
    let removal = Command::RemoveRunner(fixture.removal_of("r1"));
    assert_eq!(fixture.refused(removal), Refusal::RunnerHoldsLeases(1));
    fixture.lose(job, lease, LossCause::Expired);
    let removal = Command::RemoveRunner(fixture.removal_of("r1"));
    fixture.accepted(removal);
    assert_eq!(fixture.job(job).attempts.len(), 1, "the record of the job stays");
}

#[test]
fn one_that_comes_back_is_registered_anew() {
    let mut fixture = gone();
    let removal = fixture.removal_of("r1");
    fixture.accepted(Command::RemoveRunner(removal));
    fixture.now = fixture.now.plus(1_000);
    fixture.register("r1", &[], 2);
    let runner = fixture.state.runner(&id("r1")).expect("it is registered");
    assert_eq!(runner.connection, Connection::Online);
    assert_eq!(runner.registered_at, fixture.now);
}

#[test]
fn an_unknown_runner_is_refused() {
    let mut fixture = Fixture::new();
    let removal = Command::RemoveRunner(fixture.removal_of("r1"));
    assert_eq!(fixture.refused(removal), Refusal::UnknownRunner);
}

#[test]
fn the_same_request_again_removes_nothing_more() {
    let mut fixture = gone();
    let removal = RemoveRunner { request: Some(request("k", 1)), ..fixture.removal_of("r1") };
    fixture.accepted(Command::RemoveRunner(removal.clone()));
    assert_eq!(fixture.state.fleet_request("k").expect("a removal").runner, Some(id("r1")));
    fixture.register("r1", &[], 2);
    fixture.unreachable("r1");
    assert_eq!(fixture.apply(Command::RemoveRunner(removal)), (Ok(Reply::Done), vec![]));
    assert!(fixture.state.runner(&id("r1")).is_some());
}

#[test]
fn a_key_that_stands_for_something_else_is_refused() {
    let mut fixture = gone();
    let mut submission = fixture.submission(spec::plain());
    submission.request = Some(request("job", 1));
    fixture.accepted(Command::Submit(submission.clone()));
    let removal = RemoveRunner { request: Some(request("job", 1)), ..fixture.removal_of("r1") };
    assert_eq!(fixture.refused(Command::RemoveRunner(removal.clone())), Refusal::KeyReused);

    let removal = RemoveRunner { request: Some(request("k", 1)), ..removal };
    fixture.accepted(Command::RemoveRunner(removal.clone()));
    let other = RemoveRunner { request: Some(request("k", 2)), ..removal };
    assert_eq!(fixture.refused(Command::RemoveRunner(other)), Refusal::KeyReused);
    submission.request = Some(request("k", 1));
    assert_eq!(fixture.refused(Command::Submit(submission)), Refusal::KeyReused);
}

#[test]
fn the_oldest_keys_are_given_up() {
    let mut fixture = Fixture::new();
    for number in 0..=1_000 {
        fixture.register("r1", &[], 1);
        fixture.unreachable("r1");
        let request = Some(request(&format!("k{number}"), 1));
        let removal = RemoveRunner { request, at: Timestamp(0), ..fixture.removal_of("r1") };
        fixture.accepted(Command::RemoveRunner(removal));
    }
    assert!(fixture.state.fleet_request("k0").is_none());
    assert!(
        fixture.state.fleet_request("k1").is_some()
            && fixture.state.fleet_request("k1000").is_some()
    );
}
