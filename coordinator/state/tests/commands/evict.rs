//! Finished jobs leave once the history has them.

use baton_state::{Command, EventKind, Final, Refusal, command::Cancel};

use crate::{
    fixture::{Fixture, attempts, request},
    spec,
};

#[test]
fn only_jobs_that_ended_by_then_are_evicted() {
    let mut fixture = Fixture::with_runner();
    let [first, second, third] = [0; 3].map(|_| fixture.submit(spec::plain()));
    let lease = fixture.grant(first, "r1");
    fixture.finish(first, lease, Final::Succeeded);
    let through = fixture.state.applied();
    fixture.cancel(second);
    assert_eq!(fixture.state.evictable(through, 10), Some(through));

    assert_eq!(fixture.evict(through), [EventKind::JobEvicted { job: first }]);
    assert_eq!(fixture.state.evicted_at(), fixture.state.applied());
    assert_eq!(fixture.state.evictable(through, 10), None);
    assert_eq!(fixture.state.job(first), None);
    assert_eq!(fixture.end(second).0.state, Final::Cancelled);
    assert!(fixture.is_ready(third));
}

#[test]
fn an_eviction_of_nothing_leaves_earlier_looks_into_the_history_valid() {
    let (mut fixture, ..) = Fixture::with_lease(attempts(2));
    assert_eq!(fixture.evict(fixture.state.applied()), []);
    assert_eq!(fixture.state.evicted_at(), 0);
}

#[test]
fn the_proposer_can_bound_how_many_go_at_once() {
    let mut fixture = Fixture::new();
    let jobs = [0; 3].map(|_| fixture.submit(spec::plain()));
    for job in jobs {
        fixture.cancel(job);
    }
    let through = fixture.state.evictable(fixture.state.applied(), 2).unwrap();
    assert_eq!(fixture.evict(through).len(), 2);
    assert!(fixture.state.job(jobs[2]).is_some());
}

#[test]
fn a_key_taken_after_the_end_stays_until_the_history_has_it_too() {
    let mut fixture = Fixture::new();
    let job = fixture.submit(spec::plain());
    fixture.cancel(job);
    let ended = fixture.state.applied();
    let late = Cancel { request: Some(request("c", 1)), ..fixture.cancel_of(job) };
    fixture.accepted(Command::Cancel(late));
    let taken = fixture.state.applied();

    // The history has the job's end, and does not have the key.
    fixture.evict(ended);
    assert_eq!(fixture.state.job(job), None);
    assert_eq!(fixture.state.request("c"), Some(([1; 32], job)));
    assert_eq!(fixture.state.evictable(ended, 10), None);
    assert_eq!(fixture.state.evictable(taken, 10), Some(taken));

    let looked = fixture.state.applied();
    assert_eq!(fixture.evict(taken), []);
    assert_eq!(fixture.state.request("c"), None);
    let slow = Cancel { request: Some(request("c", 2)), ..fixture.cancel_of(job) };
    let slow = Cancel { history_seen: looked, in_history: true, ..slow };
    assert_eq!(fixture.refused(Command::Cancel(slow)), Refusal::HistoryMoved);
}
