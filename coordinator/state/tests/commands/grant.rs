//! Grants are checked again when they are applied.

use baton_state::{EventKind, Final, JobId, Lease, Level, Phase, Refusal, Timestamp};

use crate::{
    fixture::{Fixture, attempts, id, names, of_level, requiring},
    spec,
};

#[test]
fn a_grant_gives_a_lease_numbered_by_its_entry() {
    let mut fixture = Fixture::with_runner();
    let job = fixture.submit(spec::plain());
    let (_, events) = fixture.apply(fixture.grant_of(job, "r1"));
    let lease = Lease(fixture.state.applied());
    assert_eq!(events, [EventKind::JobLeased { job, lease, runner: id("r1") }]);
    assert_eq!(fixture.job(job).lease(), Some(lease));
    assert_eq!(fixture.job(job).phase, Phase::Leased);
    assert_eq!(fixture.job(job).attempts[0].runner_name, "name of r1");
    assert_eq!(fixture.queue(), []);
}

#[test]
fn a_job_has_one_lease_at_a_time() {
    let (mut fixture, job, _) = Fixture::with_lease(attempts(3));
    assert_eq!(fixture.refused(fixture.grant_of(job, "r1")), Refusal::NotReady(job));
}

#[test]
fn a_job_that_ended_or_backs_off_or_is_unknown_is_not_granted() {
    let (mut fixture, job, lease) = Fixture::with_lease(attempts(2));
    fixture.finish_transiently(job, lease);
    assert_eq!(fixture.refused(fixture.grant_of(job, "r1")), Refusal::NotReady(job));
    fixture.tick(1_000);
    let lease = fixture.grant(job, "r1");
    fixture.finish(job, lease, Final::Succeeded);
    assert_eq!(fixture.refused(fixture.grant_of(job, "r1")), Refusal::NotReady(job));
    let unknown = JobId::new(Timestamp(1), 1);
    assert_eq!(fixture.refused(fixture.grant_of(unknown, "r1")), Refusal::UnknownJob(unknown));
}

#[test]
fn a_runner_gets_no_more_than_its_slots() {
    let mut fixture = Fixture::with_runner();
    let jobs = [0; 3].map(|_| fixture.submit(spec::plain()));
    let lease = fixture.grant(jobs[0], "r1");
    fixture.grant(jobs[1], "r1");
    assert_eq!(fixture.refused(fixture.grant_of(jobs[2], "r1")), Refusal::NoFreeSlot);
    fixture.finish(jobs[0], lease, Final::Failed);
    fixture.grant(jobs[2], "r1");
}

#[test]
fn the_runner_must_be_known_answer_and_have_the_labels() {
    let mut fixture = Fixture::with_runner();
    let job = fixture.submit(requiring(&["gpu"]));
    assert_eq!(fixture.refused(fixture.grant_of(job, "r2")), Refusal::UnknownRunner);
    assert_eq!(fixture.refused(fixture.grant_of(job, "r1")), Refusal::RequirementsNotMet);
    fixture.register("r2", &["gpu", "linux"], 1);
    fixture.unreachable("r2");
    assert_eq!(fixture.refused(fixture.grant_of(job, "r2")), Refusal::RunnerUnreachable);
    fixture.register("r2", &["gpu", "linux"], 1);
    fixture.grant(job, "r2");
}

#[test]
fn a_runner_that_would_not_understand_the_job_does_not_get_it_until_it_is_upgraded() {
    let mut fixture = Fixture::new();
    fixture.register_of(Level(2), "r1");
    let job = fixture.submit(of_level(Level(3)));
    assert_eq!(fixture.refused(fixture.grant_of(job, "r1")), Refusal::RequirementsNotMet);
    assert_eq!(names(&fixture.register_of(Level(3), "r1")), ["runner_online"]);
    fixture.grant(job, "r1");
}

#[test]
fn every_lease_is_greater_than_the_one_before() {
    let (mut fixture, job, first) = Fixture::with_lease(attempts(2));
    fixture.finish_transiently(job, first);
    fixture.tick(1_000);
    assert!(fixture.grant(job, "r1") > first);
}
