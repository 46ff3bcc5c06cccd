//! A process has started.

use baton_state::{
    Command, EventKind, Final, JobId, Lease, Phase, Refusal, Timestamp,
    command::{LossCause, Start},
};

use crate::{
    fixture::{Fixture, attempts},
    spec,
};

#[test]
fn a_started_job_runs() {
    let (mut fixture, job, lease) = Fixture::with_lease(spec::plain());
    let start = Start { job, lease, at: fixture.now, started_at: Timestamp(77) };
    let events = fixture.accepted(Command::Start(start));
    assert_eq!(events, [EventKind::JobStarted { job, lease }]);
    assert_eq!(fixture.job(job).phase, Phase::Running);
    assert_eq!(fixture.job(job).attempts[0].started_at, Some(Timestamp(77)));
}

#[test]
fn a_second_report_of_the_start_changes_nothing() {
    let (mut fixture, job, lease) = Fixture::with_lease(spec::plain());
    fixture.accepted(fixture.start_of(job, lease));
    let before = fixture.job(job).clone();
    fixture.now = fixture.now.plus(500);
    assert_eq!(fixture.accepted(fixture.start_of(job, lease)), []);
    assert_eq!(*fixture.job(job), before);
}

#[test]
fn a_start_under_an_earlier_lease_is_refused() {
    let (mut fixture, job, stale) = Fixture::with_lease(attempts(2));
    fixture.lose(job, stale, LossCause::NotHeld);
    assert_eq!(fixture.refused(fixture.start_of(job, stale)), Refusal::StaleLease(stale));
    fixture.grant(job, "r1");
    assert_eq!(fixture.refused(fixture.start_of(job, stale)), Refusal::StaleLease(stale));
}

#[test]
fn a_start_after_the_end_or_of_an_unknown_job_is_refused() {
    let (mut fixture, job, lease) = Fixture::with_lease(spec::plain());
    fixture.finish(job, lease, Final::Succeeded);
    assert_eq!(fixture.refused(fixture.start_of(job, lease)), Refusal::StaleLease(lease));
    let unknown = JobId::new(Timestamp(1), 1);
    let start = fixture.start_of(unknown, Lease(1));
    assert_eq!(fixture.refused(start), Refusal::UnknownJob(unknown));
}
