//! The end of an attempt: most often of its job too.

use std::sync::Arc;

use baton_state::{
    Command, EventKind, Final, LogEnd, OnLost, Phase, Refusal, Timestamp,
    command::{Finish, LossCause},
};

use crate::{
    fixture::{Fixture, attempts, id, names, on_lost},
    spec,
};

#[test]
fn a_finished_job_carries_its_outcome_and_its_log() {
    let (mut fixture, job, lease) = Fixture::with_lease(spec::plain());
    let log = LogEnd {
        stdout_length: 3,
        stdout_blake3: "a".to_owned(),
        stderr_length: 0,
        stderr_blake3: "b".to_owned(),
        dropped: 0,
        file_length: 9,
        file_blake3: "c".to_owned(),
    };
    let finish = Finish { log: Some(log.clone()), ..fixture.finish_of(job, lease, Final::Failed) };
    let events = fixture.accepted(Command::Finish(finish));
    let ended = fixture.job(job).clone();
    assert_eq!(ended.outcome().map(|outcome| outcome.state), Some(Final::Failed));
    assert_eq!(ended.attempts[0].log, Some(log));
    assert_eq!(ended.attempts[0].outcome.as_ref(), ended.outcome());
    assert_eq!(events, [EventKind::JobFinished { job: Arc::new(ended) }]);
    assert_eq!(fixture.state.leased(), 0);
}

#[test]
fn a_finish_without_a_reported_start_still_tells_when_it_started() {
    let (mut fixture, job, lease) = Fixture::with_lease(spec::plain());
    let finish = fixture.finish_of(job, lease, Final::Succeeded);
    fixture.accepted(Command::Finish(Finish { started_at: Some(Timestamp(5)), ..finish }));
    assert_eq!(fixture.job(job).attempts[0].started_at, Some(Timestamp(5)));
}

#[test]
fn a_reported_start_is_not_overwritten_by_the_finish() {
    let (mut fixture, job, lease) = Fixture::with_lease(spec::plain());
    fixture.accepted(fixture.start_of(job, lease));
    let started_at = fixture.job(job).attempts[0].started_at;
    let finish = fixture.finish_of(job, lease, Final::Succeeded);
    fixture.accepted(Command::Finish(Finish { started_at: Some(Timestamp(5)), ..finish }));
    assert_eq!(fixture.job(job).attempts[0].started_at, started_at);
}

#[test]
fn only_the_current_lease_may_finish_a_job() {
    let (mut fixture, job, stale) = Fixture::with_lease(attempts(2));
    fixture.lose(job, stale, LossCause::Expired);
    let current = fixture.grant(job, "r1");
    let late = Command::Finish(fixture.finish_of(job, stale, Final::Succeeded));
    assert_eq!(fixture.refused(late), Refusal::StaleLease(stale));
    fixture.finish(job, current, Final::Failed);
    let twice = Command::Finish(fixture.finish_of(job, current, Final::Succeeded));
    assert_eq!(fixture.refused(twice), Refusal::StaleLease(current));
    assert_eq!(fixture.end(job).0.state, Final::Failed);
}

#[test]
fn a_transient_error_is_tried_again_after_a_back_off() {
    let (mut fixture, job, lease) = Fixture::with_lease(attempts(3));
    let events = fixture.finish_transiently(job, lease);
    let outcome = fixture.job(job).attempts[0].outcome.clone().expect("the attempt has ended");
    assert_eq!(events, [EventKind::JobRequeued { job, lease, runner: id("r1"), outcome }]);
    let not_before = Some(fixture.now.plus(1_000));
    assert_eq!(fixture.job(job).phase, Phase::Queued { not_before });
    assert_eq!(fixture.state.queues().next_due(), not_before);

    fixture.tick(1_000);
    let lease = fixture.grant(job, "r1");
    fixture.finish_transiently(job, lease);
    let not_before = Some(fixture.now.plus(2_000));
    assert_eq!(fixture.job(job).phase, Phase::Queued { not_before });
}

#[test]
fn a_job_queued_again_keeps_its_place() {
    let (mut fixture, first, lease) = Fixture::with_lease(attempts(2));
    let second = fixture.submit(spec::plain());
    fixture.finish_transiently(first, lease);
    assert_eq!(fixture.queue(), [second]);
    fixture.tick(1_000);
    assert_eq!(fixture.queue(), [first, second]);
}

#[test]
fn the_last_attempts_transient_error_makes_a_dead_letter() {
    let (mut fixture, job, lease) = Fixture::with_lease(attempts(2));
    fixture.finish_transiently(job, lease);
    fixture.tick(1_000);
    let lease = fixture.grant(job, "r1");
    assert_eq!(names(&fixture.finish_transiently(job, lease)), ["job_finished"]);
    let (outcome, dead_letter) = fixture.end(job);
    assert_eq!((outcome.state, dead_letter), (Final::Error, true));
    assert_eq!(fixture.job(job).attempts.len(), 2);
}

#[test]
fn a_lasting_error_or_a_failure_is_not_tried_again() {
    for (state, transient) in [(Final::Error, false), (Final::Failed, true)] {
        let (mut fixture, job, lease) = Fixture::with_lease(attempts(3));
        let finish = Finish { transient, ..fixture.finish_of(job, lease, state) };
        fixture.accepted(Command::Finish(finish));
        let (outcome, dead_letter) = fixture.end(job);
        assert_eq!((outcome.state, dead_letter), (state, false));
    }
}

#[test]
fn an_attempt_that_its_own_runner_lost_follows_the_jobs_policy() {
    let (mut fixture, job, lease) = Fixture::with_lease(on_lost(OnLost::Requeue, 2));
    assert_eq!(names(&fixture.finish(job, lease, Final::Lost)), ["job_requeued"]);
    assert!(fixture.is_ready(job));
    let lease = fixture.grant(job, "r1");
    fixture.finish(job, lease, Final::Lost);
    let (outcome, dead_letter) = fixture.end(job);
    assert_eq!((outcome.state, dead_letter), (Final::Lost, true));

    for policy in [OnLost::Fail, OnLost::Wait] {
        let (mut fixture, job, lease) = Fixture::with_lease(on_lost(policy, 2));
        fixture.finish(job, lease, Final::Lost);
        let (outcome, dead_letter) = fixture.end(job);
        assert_eq!((outcome.state, dead_letter), (Final::Lost, false));
    }
}

#[test]
fn a_cancelled_attempt_that_its_own_runner_lost_ends_cancelled() {
    let (mut fixture, job, lease) = Fixture::with_lease(attempts(2));
    fixture.cancel(job);
    fixture.finish(job, lease, Final::Lost);
    assert_eq!(fixture.end(job).0.state, Final::Cancelled);
}
