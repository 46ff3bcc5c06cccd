//! Each reason a job can wait for.

use baton_state::{
    Final, JobId, JobSpec, Level, Timestamp,
    explain::{WaitReason, Waiting, explain},
};

use crate::{
    fixture::{Fixture, attempts, of_level, requiring},
    spec,
};

fn waiting(fixture: &Fixture, job: JobId) -> Waiting {
    explain(&fixture.state, job, fixture.now).expect("the job waits")
}

#[test]
fn no_runner_has_registered() {
    let mut fixture = Fixture::new();
    let job = fixture.submit(spec::plain());
    assert_eq!(waiting(&fixture, job).reason, WaitReason::NoRunner);
}

#[test]
fn no_runner_has_the_labels_and_the_closest_is_named() {
    let mut fixture = Fixture::new();
    fixture.register("far", &[], 1);
    fixture.register("near", &["linux"], 1);
    let job = fixture.submit(requiring(&["gpu", "linux"]));
    let waiting = waiting(&fixture, job);
    assert_eq!(waiting.reason, WaitReason::NoRunnerWithLabels);
    assert!(waiting.message.contains("name of near, lacks: gpu"), "{}", waiting.message);
}

#[test]
fn the_runners_that_have_the_labels_are_too_old_and_are_named() {
    let mut fixture = Fixture::new();
    fixture.register_of(Level(2), "r1");
    fixture.register_of(Level(2), "r2");
    let job = fixture.submit(of_level(Level(3)));
    let too_old = waiting(&fixture, job);
    assert_eq!(too_old.reason, WaitReason::RunnersTooOld);
    assert!(too_old.message.ends_with("; upgrade: name of r1, name of r2"), "{}", too_old.message);
    fixture.register_of(Level(3), "r2");
    assert_eq!(waiting(&fixture, job).reason, WaitReason::Starting);
    fixture.unreachable("r2");
    assert_eq!(waiting(&fixture, job).message, "unreachable: name of r2");
}

#[test]
fn the_runners_that_have_the_labels_do_not_answer() {
    let mut fixture = Fixture::new();
    fixture.register("r1", &["gpu"], 1);
    fixture.register("r2", &[], 1);
    fixture.unreachable("r1");
    let job = fixture.submit(requiring(&["gpu"]));
    let waiting = waiting(&fixture, job);
    assert_eq!(waiting.reason, WaitReason::RunnersUnreachable);
    assert_eq!(waiting.message, "unreachable: name of r1");
}

#[test]
fn all_slots_are_taken() {
    let mut fixture = Fixture::with_runner();
    let jobs = [0; 4].map(|_| fixture.submit(spec::plain()));
    fixture.grant(jobs[0], "r1");
    fixture.grant(jobs[1], "r1");
    let waiting = waiting(&fixture, jobs[3]);
    assert_eq!((waiting.reason, waiting.ahead), (WaitReason::SlotsBusy, 1));
    assert!(waiting.message.contains("all 2 slots of name of r1"), "{}", waiting.message);
}

#[test]
fn the_free_slots_are_for_the_jobs_before_it() {
    let mut fixture = Fixture::with_runner();
    let last = fixture.submit(spec::plain());
    for _ in 0..2 {
        fixture.submit(JobSpec { priority: 1, ..spec::plain() });
    }
    let waiting = waiting(&fixture, last);
    assert_eq!((waiting.reason, waiting.ahead), (WaitReason::BehindOthers, 2));
}

#[test]
fn its_last_attempt_failed() {
    let (mut fixture, job, lease) = Fixture::with_lease(attempts(3));
    fixture.finish_transiently(job, lease);
    let waiting = waiting(&fixture, job);
    assert_eq!((waiting.reason, waiting.ahead), (WaitReason::Backoff, 0));
    assert_eq!(waiting.message, "attempt 1 of 3 failed; the next one starts in 1 s");
}

#[test]
fn it_is_about_to_start() {
    let mut fixture = Fixture::with_runner();
    let jobs = [0; 2].map(|_| fixture.submit(spec::plain()));
    for job in jobs {
        assert_eq!(waiting(&fixture, job).reason, WaitReason::Starting);
    }
}

#[test]
fn a_job_that_does_not_wait_has_no_reason() {
    let (mut fixture, job, lease) = Fixture::with_lease(spec::plain());
    assert_eq!(explain(&fixture.state, job, fixture.now), None);
    fixture.finish(job, lease, Final::Succeeded);
    assert_eq!(explain(&fixture.state, job, fixture.now), None);
    assert_eq!(explain(&fixture.state, JobId::new(Timestamp(1), 1), fixture.now), None);
}

#[test]
fn the_stable_words_are_distinct() {
    let reasons = [
        WaitReason::NoRunner,
        WaitReason::NoRunnerWithLabels,
        WaitReason::RunnersTooOld,
        WaitReason::RunnersUnreachable,
        WaitReason::SlotsBusy,
        WaitReason::BehindOthers,
        WaitReason::Backoff,
        WaitReason::Starting,
    ];
    let words: std::collections::BTreeSet<_> = reasons.map(WaitReason::as_str).into();
    assert_eq!(words.len(), reasons.len());
}
