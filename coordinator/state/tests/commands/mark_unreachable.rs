//! Runners that no longer answer.

use baton_state::{Command, Connection, EventKind, Final, Refusal, command::MarkUnreachable};

use crate::{
    fixture::{Fixture, id},
    spec,
};

#[test]
fn an_unreachable_runner_keeps_its_leases_and_may_still_report() {
    let (mut fixture, job, lease) = Fixture::with_lease(spec::plain());
    let name = "name of r1".to_owned();
    let gone = EventKind::RunnerUnreachable { runner: id("r1"), name };
    assert_eq!(fixture.unreachable("r1"), [gone]);
    let runner = fixture.state.runner(&id("r1")).expect("it is registered");
    assert_eq!(runner.connection, Connection::Unreachable);
    assert_eq!(fixture.job(job).lease(), Some(lease));
    fixture.finish(job, lease, Final::Succeeded);
}

#[test]
fn marking_it_again_changes_nothing() {
    let mut fixture = Fixture::with_runner();
    fixture.unreachable("r1");
    let before = fixture.state.runners().clone();
    fixture.now = fixture.now.plus(1_000);
    assert_eq!(fixture.unreachable("r1"), []);
    assert_eq!(*fixture.state.runners(), before);
}

#[test]
fn an_unknown_runner_is_refused() {
    let mut fixture = Fixture::new();
    let command = MarkUnreachable { runner: id("r1"), at: fixture.now };
    assert_eq!(fixture.refused(Command::MarkUnreachable(command)), Refusal::UnknownRunner);
}
