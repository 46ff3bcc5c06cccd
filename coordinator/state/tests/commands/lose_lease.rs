//! Lost leases, by cause and by what the job wants then.

use baton_state::{EventKind, Final, Job, OnLost, Refusal, command::LossCause};

use crate::fixture::{Fixture, attempts, id, names, on_lost};

#[test]
fn requeue_waits_again_at_once_and_in_its_place() {
    let (mut fixture, first, lease) = Fixture::with_lease(on_lost(OnLost::Requeue, 2));
    let second = fixture.submit(attempts(1));
    let events = fixture.lose(first, lease, LossCause::Expired);
    let outcome = fixture.job(first).attempts[0].outcome.clone().expect("the attempt has ended");
    assert_eq!((outcome.state, outcome.reason.as_str()), (Final::Lost, "LEASE_EXPIRED"));
    assert_eq!(events, [EventKind::JobRequeued { job: first, lease, runner: id("r1"), outcome }]);
    assert_eq!(fixture.queue(), [first, second]);
    assert!(fixture.is_ready(first));
}

#[test]
fn requeue_ends_as_a_dead_letter_when_the_attempts_are_used_up() {
    let (mut fixture, job, lease) = Fixture::with_lease(on_lost(OnLost::Requeue, 2));
    fixture.lose(job, lease, LossCause::NotHeld);
    let lease = fixture.grant(job, "r1");
    fixture.lose(job, lease, LossCause::NotHeld);
    let (outcome, dead_letter) = fixture.end(job);
    assert_eq!((outcome.state, dead_letter), (Final::Lost, true));
}

#[test]
fn fail_ends_lost_although_attempts_are_left() {
    let (mut fixture, job, lease) = Fixture::with_lease(on_lost(OnLost::Fail, 3));
    assert_eq!(names(&fixture.lose(job, lease, LossCause::Expired)), ["job_finished"]);
    let (outcome, dead_letter) = fixture.end(job);
    assert_eq!((outcome.state, dead_letter), (Final::Lost, false));
}

#[test]
fn wait_keeps_the_lease_of_a_silent_runner() {
    let (mut fixture, job, lease) = Fixture::with_lease(on_lost(OnLost::Wait, 3));
    assert!(!fixture.job(job).lease_may_expire());
    let loss = fixture.loss_of(job, lease, LossCause::Expired);
    assert_eq!(fixture.refused(loss), Refusal::LeaseKept);
    assert_eq!(fixture.job(job).lease(), Some(lease));
    fixture.finish(job, lease, Final::Succeeded);
    assert_eq!(fixture.end(job).0.state, Final::Succeeded);
}

#[test]
fn wait_gives_up_once_the_job_is_cancelled() {
    let (mut fixture, job, lease) = Fixture::with_lease(on_lost(OnLost::Wait, 3));
    fixture.cancel(job);
    assert!(fixture.job(job).lease_may_expire());
    fixture.lose(job, lease, LossCause::Expired);
    assert_eq!(fixture.end(job).0.state, Final::Cancelled);
}

#[test]
fn wait_ends_lost_when_the_runner_is_back_without_the_job() {
    let (mut fixture, job, lease) = Fixture::with_lease(on_lost(OnLost::Wait, 3));
    fixture.lose(job, lease, LossCause::NotHeld);
    let (outcome, dead_letter) = fixture.end(job);
    assert_eq!((outcome.state, dead_letter), (Final::Lost, false));
}

#[test]
fn no_loss_proves_that_no_process_is_left() {
    for (cause, reason) in [(LossCause::Expired, "LEASE_EXPIRED"), (LossCause::NotHeld, "NOT_HELD")]
    {
        let (mut fixture, job, lease) = Fixture::with_lease(on_lost(OnLost::Fail, 1));
        fixture.lose(job, lease, cause);
        let (outcome, _) = fixture.end(job);
        assert_eq!((outcome.reason.as_str(), outcome.tree_gone), (reason, false));
        assert!(outcome.message.contains("name of r1"), "{}", outcome.message);
    }
}

#[test]
fn a_lost_lease_frees_its_slot_and_cannot_be_lost_again() {
    let (mut fixture, job, lease) = Fixture::with_lease(attempts(2));
    fixture.lose(job, lease, LossCause::Expired);
    assert_eq!(fixture.state.runner(&id("r1")).map(baton_state::Runner::free_slots), Some(2));
    let again = fixture.loss_of(job, lease, LossCause::Expired);
    assert_eq!(fixture.refused(again), Refusal::StaleLease(lease));
    assert_eq!(fixture.state.job(job).and_then(Job::lease), None);
}
