//! Cancelling, at each point of a job's life.

use baton_state::{
    Command, EventKind, Final, JobId, Refusal, Reply, Timestamp,
    command::{Cancel, Finish, LossCause, Submit},
};

use crate::{
    fixture::{Fixture, attempts, id, names, request},
    spec,
};

#[test]
fn a_queued_job_is_cancelled_at_once() {
    let mut fixture = Fixture::new();
    let job = fixture.submit(spec::plain());
    assert_eq!(names(&fixture.cancel(job)), ["job_finished"]);
    let (outcome, dead_letter) = fixture.end(job);
    assert_eq!((outcome.state, dead_letter), (Final::Cancelled, false));
    assert!(outcome.tree_gone, "nothing ever ran");
    assert_eq!(fixture.job(job).cancellation.as_ref().map(|c| c.by.as_str()), Some("bob"));
    assert_eq!(fixture.queue(), []);
}

#[test]
fn a_job_in_back_off_is_cancelled_at_once_with_what_is_known_of_its_processes() {
    for tree_gone in [true, false] {
        let (mut fixture, job, lease) = Fixture::with_lease(attempts(2));
        let mut finish = fixture.finish_of(job, lease, Final::Error);
        finish.outcome.tree_gone = tree_gone;
        fixture.accepted(Command::Finish(Finish { transient: true, ..finish }));
        fixture.cancel(job);
        let (outcome, _) = fixture.end(job);
        assert_eq!((outcome.state, outcome.tree_gone), (Final::Cancelled, tree_gone));
        assert_eq!(fixture.tick(60_000), []);
    }
}

#[test]
fn a_leased_or_running_job_goes_on_until_its_runner_reports_the_end() {
    for started in [false, true] {
        let (mut fixture, job, lease) = Fixture::with_lease(attempts(2));
        if started {
            fixture.accepted(fixture.start_of(job, lease));
        }
        let asked =
            EventKind::CancelRequested { job, lease, runner: id("r1"), by: "bob".to_owned() };
        assert_eq!(fixture.cancel(job), [asked]);
        assert_eq!(fixture.job(job).lease(), Some(lease));
        assert_eq!(fixture.cancel(job), [], "asking again changes nothing");
        fixture.finish(job, lease, Final::Cancelled);
        assert_eq!(fixture.end(job).0.state, Final::Cancelled);
    }
}

#[test]
fn a_job_that_ends_by_itself_before_the_runner_heard_keeps_its_own_end() {
    let (mut fixture, job, lease) = Fixture::with_lease(spec::plain());
    fixture.cancel(job);
    fixture.finish(job, lease, Final::Succeeded);
    assert_eq!(fixture.end(job).0.state, Final::Succeeded);
}

#[test]
fn a_cancel_after_the_end_changes_nothing() {
    let (mut fixture, job, lease) = Fixture::with_lease(spec::plain());
    fixture.finish(job, lease, Final::Succeeded);
    let before = fixture.job(job).clone();
    let (reply, events) = fixture.apply(Command::Cancel(fixture.cancel_of(job)));
    assert_eq!((reply, events), (Ok(Reply::Job(job)), vec![]));
    assert_eq!(*fixture.job(job), before);
}

#[test]
fn a_cancelled_job_is_not_tried_again() {
    let (mut fixture, job, lease) = Fixture::with_lease(attempts(3));
    fixture.cancel(job);
    fixture.finish_transiently(job, lease);
    let (outcome, dead_letter) = fixture.end(job);
    assert_eq!((outcome.state, dead_letter), (Final::Error, false));
}

#[test]
fn a_cancelled_job_whose_runner_is_lost_ends_cancelled() {
    let (mut fixture, job, lease) = Fixture::with_lease(attempts(3));
    fixture.cancel(job);
    fixture.lose(job, lease, LossCause::Expired);
    let (outcome, _) = fixture.end(job);
    assert_eq!((outcome.state, outcome.tree_gone), (Final::Cancelled, false));
    assert_eq!(outcome.reason, "LEASE_EXPIRED");
}

#[test]
fn an_unknown_job_cannot_be_cancelled() {
    let mut fixture = Fixture::new();
    let job = JobId::new(Timestamp(1), 1);
    let cancel = Command::Cancel(fixture.cancel_of(job));
    assert_eq!(fixture.refused(cancel), Refusal::UnknownJob(job));
}

#[test]
fn a_key_belongs_to_one_request_whatever_its_kind() {
    let mut fixture = Fixture::new();
    let submission = fixture.submission(spec::plain());
    let job = submission.id;
    fixture.accepted(Command::Submit(Submit { request: Some(request("k", 1)), ..submission }));
    let cancel = fixture.cancel_of(job);
    let reused = Cancel { request: Some(request("k", 2)), ..cancel.clone() };
    assert_eq!(fixture.refused(Command::Cancel(reused)), Refusal::KeyReused);
    let keyed = Cancel { request: Some(request("c", 1)), ..cancel };
    assert_eq!(names(&fixture.accepted(Command::Cancel(keyed.clone()))), ["job_finished"]);
    assert_eq!(fixture.apply(Command::Cancel(keyed)), (Ok(Reply::Job(job)), vec![]));
    fixture.evict(fixture.state.applied());
    assert_eq!((fixture.state.request("k"), fixture.state.request("c")), (None, None));
}

#[test]
fn a_cancel_after_the_end_takes_its_key_and_tells_the_history() {
    let (mut fixture, job, lease) = Fixture::with_lease(spec::plain());
    fixture.finish(job, lease, Final::Succeeded);
    let before = fixture.job(job).clone();
    let cancel = Cancel { request: Some(request("c", 1)), ..fixture.cancel_of(job) };
    let taken = EventKind::KeyTaken { job, request: request("c", 1) };
    assert_eq!(fixture.accepted(Command::Cancel(cancel.clone())), [taken]);
    assert_eq!(*fixture.job(job), before);
    assert_eq!(fixture.apply(Command::Cancel(cancel.clone())), (Ok(Reply::Job(job)), vec![]));
    let other = Cancel { request: Some(request("c", 2)), ..cancel };
    assert_eq!(fixture.refused(Command::Cancel(other)), Refusal::KeyReused);
}

#[test]
fn a_cancel_of_a_job_that_only_the_history_has_takes_its_key() {
    let mut fixture = Fixture::new();
    let job = fixture.submit(spec::plain());
    fixture.cancel(job);
    fixture.evict(fixture.state.applied());
    let cancel = Cancel { request: Some(request("c", 1)), ..fixture.cancel_of(job) };
    assert_eq!(fixture.refused(Command::Cancel(cancel.clone())), Refusal::UnknownJob(job));
    let cancel = Cancel { in_history: true, ..cancel };
    assert_eq!(names(&fixture.accepted(Command::Cancel(cancel.clone()))), ["key_taken"]);
    assert_eq!(fixture.apply(Command::Cancel(cancel.clone())), (Ok(Reply::Job(job)), vec![]));
    let other = Cancel { request: Some(request("c", 2)), ..cancel };
    assert_eq!(fixture.refused(Command::Cancel(other)), Refusal::KeyReused);
}
