//! The priority of a job changes while it has not ended.

use baton_state::{
    Command, EventKind, Final, JobSpec, Level, Refusal, Reply, command::SetPriority,
};

use crate::{
    fixture::{Fixture, attempts, names, request},
    spec,
};

#[test]
fn a_job_with_a_higher_priority_overtakes_and_keeps_its_arrival() {
    let mut fixture = Fixture::new();
    let jobs = [0; 3].map(|_| fixture.submit(spec::plain()));
    let raised = Command::SetPriority(fixture.priority_of(jobs[2], 5));
    let event = EventKind::JobPriority { job: jobs[2], from: 0, to: 5, by: "ann".to_owned() };
    assert_eq!(fixture.accepted(raised.clone()), [event]);
    assert_eq!(fixture.queue(), [jobs[2], jobs[0], jobs[1]]);
    assert_eq!(fixture.accepted(raised), [], "it has that priority");
    let lowered = Command::SetPriority(fixture.priority_of(jobs[2], 0));
    fixture.accepted(lowered);
    assert_eq!(fixture.queue(), jobs);
}

#[test]
fn a_running_job_keeps_it_for_the_next_attempt() {
    let (mut fixture, job, lease) = Fixture::with_lease(attempts(2));
    let other = fixture.submit(JobSpec { priority: 1, ..spec::plain() });
    fixture.accepted(Command::SetPriority(fixture.priority_of(job, 2)));
    assert_eq!(fixture.job(job).lease(), Some(lease));
    fixture.finish_transiently(job, lease);
    fixture.tick(60_000);
    assert_eq!(fixture.queue(), [job, other]);
}

#[test]
fn a_job_that_has_ended_or_is_unknown_is_refused() {
    let (mut fixture, job, lease) = Fixture::with_lease(spec::plain());
    fixture.finish(job, lease, Final::Succeeded);
    let ended = SetPriority { request: Some(request("k", 1)), ..fixture.priority_of(job, 1) };
    assert_eq!(fixture.refused(Command::SetPriority(ended)), Refusal::JobFinished(job));
    fixture.evict(fixture.state.applied());
    let evicted = Command::SetPriority(fixture.priority_of(job, 1));
    assert_eq!(fixture.refused(evicted), Refusal::UnknownJob(job));
}

#[test]
fn a_key_stands_for_one_change_of_one_job() {
    let mut fixture = Fixture::new();
    let job = fixture.submit(spec::plain());
    let first = SetPriority { request: Some(request("k", 1)), ..fixture.priority_of(job, 3) };
    fixture.accepted(Command::SetPriority(first.clone()));
    let later = Command::SetPriority(fixture.priority_of(job, 4));
    assert_eq!(names(&fixture.accepted(later)), ["job_priority"]);
    assert_eq!(fixture.apply(Command::SetPriority(first.clone())), (Ok(Reply::Job(job)), vec![]));
    assert_eq!(fixture.job(job).spec.priority, 4);
    let other = SetPriority { request: Some(request("k", 2)), ..first.clone() };
    assert_eq!(fixture.refused(Command::SetPriority(other)), Refusal::KeyReused);
    assert_eq!(Command::SetPriority(first).level(), Level(4));
}
