//! Runners connect, come back and change.

use baton_state::{Connection, EventKind, Final, Level, Refusal, RunnerFacts};

use crate::{
    fixture::{Fixture, id, names},
    spec,
};

#[test]
fn a_new_runner_is_online() {
    let mut fixture = Fixture::new();
    let online = EventKind::RunnerOnline {
        runner: id("r1"),
        name: "name of r1".to_owned(),
        version: "1".to_owned(),
        leaving: false,
    };
    assert_eq!(fixture.register("r1", &["linux"], 2), [online]);
    let runner = fixture.state.runner(&id("r1")).expect("it is registered");
    assert_eq!(runner.connection, Connection::Online);
    assert_eq!((runner.registered_at, runner.changed_at), (fixture.now, fixture.now));
    assert_eq!(runner.free_slots(), 2);
}

#[test]
fn registering_again_with_the_same_facts_changes_nothing() {
    let mut fixture = Fixture::with_runner();
    let before = fixture.state.runners().clone();
    fixture.now = fixture.now.plus(1_000);
    assert_eq!(fixture.register("r1", &[], 2), []);
    assert_eq!(*fixture.state.runners(), before);
}

#[test]
fn only_new_members_know_of_newer_runners_than_those_that_do_not_say_what_they_are() {
    let unsaid = Fixture::facts("r1", &[], 2);
    assert_eq!(unsaid.level(), Level(1));
    assert_eq!(RunnerFacts { level: Level(3), ..unsaid }.level(), Level(3));
}

#[test]
fn a_runner_that_comes_back_keeps_its_leases() {
    let (mut fixture, job, lease) = Fixture::with_lease(spec::plain());
    let registered_at = fixture.now;
    fixture.unreachable("r1");
    fixture.now = fixture.now.plus(1_000);
    assert_eq!(names(&fixture.register("r1", &[], 2)), ["runner_online"]);
    let runner = fixture.state.runner(&id("r1")).expect("it is registered");
    assert_eq!((runner.registered_at, runner.changed_at), (registered_at, fixture.now));
    assert_eq!(runner.leases.get(&lease), Some(&job));
}

#[test]
fn with_fewer_slots_it_keeps_what_it_has_and_gets_nothing_more() {
    let mut fixture = Fixture::with_runner();
    let jobs = [0; 3].map(|_| fixture.submit(spec::plain()));
    let leases = [fixture.grant(jobs[0], "r1"), fixture.grant(jobs[1], "r1")];
    fixture.register("r1", &[], 1);
    assert_eq!(fixture.state.leased(), 2);
    assert_eq!(fixture.refused(fixture.grant_of(jobs[2], "r1")), Refusal::NoFreeSlot);
    fixture.finish(jobs[0], leases[0], Final::Succeeded);
    assert_eq!(fixture.refused(fixture.grant_of(jobs[2], "r1")), Refusal::NoFreeSlot);
    fixture.finish(jobs[1], leases[1], Final::Succeeded);
    fixture.grant(jobs[2], "r1");
}
