//! What the passing of time does.

use baton_state::{EventKind, Final, JobSpec, command::LossCause};

use crate::{
    fixture::{Fixture, attempts, names},
    spec,
};

fn impatient() -> JobSpec {
    JobSpec { queue_timeout: Some(5_000), attempts: 2, ..spec::plain() }
}

#[test]
fn a_back_off_ends_at_its_time_and_not_before() {
    let (mut fixture, job, lease) = Fixture::with_lease(attempts(2));
    fixture.finish_transiently(job, lease);
    assert_eq!(fixture.tick(999), []);
    assert!(!fixture.is_ready(job));
    assert_eq!(fixture.tick(1), [EventKind::JobReady { job }]);
    assert!(fixture.is_ready(job));
    assert_eq!(fixture.state.queues().next_due(), None);
    assert_eq!(fixture.tick(60_000), []);
}

#[test]
fn a_job_that_waited_too_long_ends_in_error() {
    let mut fixture = Fixture::new();
    let job = fixture.submit(impatient());
    assert_eq!(fixture.state.queues().next_due(), Some(fixture.now.plus(5_000)));
    assert_eq!(fixture.tick(4_999), []);
    assert_eq!(names(&fixture.tick(1)), ["job_finished"]);
    let (outcome, dead_letter) = fixture.end(job);
    assert_eq!((outcome.state, outcome.reason.as_str()), (Final::Error, "QUEUE_TIMEOUT"));
    assert!(outcome.tree_gone && !dead_letter);
    assert!(outcome.message.ends_with(" 5 s"), "{}", outcome.message);
}

#[test]
fn the_queue_timeout_counts_only_until_the_first_lease() {
    let mut fixture = Fixture::with_runner();
    let job = fixture.submit(impatient());
    let lease = fixture.grant(job, "r1");
    assert_eq!(fixture.tick(5_000), []);
    fixture.lose(job, lease, LossCause::NotHeld);
    assert_eq!(fixture.tick(5_000), []);
    assert!(fixture.is_ready(job));
}

#[test]
fn what_is_due_together_happens_together_in_order_of_time() {
    let mut fixture = Fixture::new();
    let later = fixture.submit(JobSpec { queue_timeout: Some(2_000), ..spec::plain() });
    let sooner = fixture.submit(JobSpec { queue_timeout: Some(1_000), ..spec::plain() });
    let events = fixture.tick(3_000);
    let jobs: Vec<_> = events.iter().filter_map(EventKind::job).collect();
    assert_eq!(jobs, [sooner, later]);
}
