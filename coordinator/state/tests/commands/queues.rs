//! Queues: what is counted of them, and their pause.

use baton_state::{
    Command, EventKind, Executor, Final, JobSpec, Level, Paused, QueueName, Refusal, Reply,
    Requirements,
    command::PauseQueue,
    explain::{WaitReason, explain},
    snapshot,
};

use crate::{
    fixture::{Fixture, attempts, names, request, requiring},
    spec,
};

fn of(project: &str) -> JobSpec {
    JobSpec { project: project.to_owned(), ..spec::plain() }
}

fn queue(project: &str) -> QueueName {
    QueueName::of(project, &Requirements::default())
}

#[test]
fn jobs_of_a_paused_queue_wait_and_those_of_others_do_not() {
    let mut fixture = Fixture::with_runner();
    let held = fixture.submit(of("a"));
    let pause = Command::PauseQueue(fixture.pause_of(queue("a")));
    let paused = EventKind::QueuePaused { queue: queue("a"), by: "ann".to_owned() };
    assert_eq!(fixture.accepted(pause.clone()), [paused]);
    assert_eq!(fixture.accepted(pause), [], "it is paused already");
    let other = fixture.submit(of("b"));
    let newer = fixture.submit(JobSpec { requirements: newer(), ..of("a") });
    assert_eq!(fixture.refused(fixture.grant_of(held, "r1")), Refusal::QueuePaused);
    assert_eq!(fixture.refused(fixture.grant_of(newer, "r1")), Refusal::QueuePaused);
    fixture.grant(other, "r1");

    fixture.tick(150_000);
    let why = explain(&fixture.state, held, fixture.now).expect("it waits");
    assert_eq!(why.reason, WaitReason::QueuePaused);
    assert_eq!((&*why.message, why.ahead), ("ann paused its queue 2 min ago", 0));
    let last = fixture.submit(of("b"));
    let why = explain(&fixture.state, last, fixture.now).expect("it waits");
    assert_eq!(why.ahead, 0, "what is paused is before nobody");

    let resume = Command::ResumeQueue(fixture.resume_queue_of(queue("a")));
    let resumed = EventKind::QueueResumed { queue: queue("a"), by: "bob".to_owned() };
    assert_eq!(fixture.accepted(resume.clone()), [resumed]);
    assert_eq!(fixture.accepted(resume), []);
    fixture.grant(held, "r1");
}

fn newer() -> Requirements {
    Requirements { level: Level(3), ..Requirements::default() }
}

#[test]
fn a_running_job_of_a_paused_queue_goes_on_and_waits_when_it_is_queued_again() {
    let (mut fixture, job, lease) = Fixture::with_lease(attempts(2));
    fixture.accepted(Command::PauseQueue(fixture.pause_of(queue("default"))));
    fixture.finish_transiently(job, lease);
    let why = explain(&fixture.state, job, fixture.now).expect("it waits");
    assert_eq!(why.reason, WaitReason::QueuePaused);
    fixture.tick(60_000);
    assert_eq!(fixture.refused(fixture.grant_of(job, "r1")), Refusal::QueuePaused);
}

#[test]
fn a_pause_outlasts_an_empty_queue_and_is_in_the_snapshot() {
    let mut fixture = Fixture::with_runner();
    fixture.accepted(Command::PauseQueue(fixture.pause_of(queue("a"))));
    let loaded = snapshot::decode(&snapshot::encode(&fixture.state)).expect("a snapshot");
    assert_eq!(loaded, fixture.state);
    let paused = Paused { by: "ann".to_owned(), since: fixture.now };
    assert_eq!(loaded.pause_of("a", &Requirements::default()), Some(&paused));
    assert_eq!(loaded.pause_of("b", &Requirements::default()), None);
    assert_eq!(loaded.pause_of("a", &Requirements { executor: Executor::Docker, ..newer() }), None);
}

#[test]
fn no_more_queues_are_paused_than_may_be() {
    let mut fixture = Fixture::new();
    for number in 0..1_000 {
        let pause = fixture.pause_of(queue(&number.to_string()));
        let index = fixture.state.applied() + 1;
        let (reply, _) = fixture.state.apply(index, Command::PauseQueue(pause));
        assert_eq!(reply, Ok(Reply::Done));
    }
    let pause = |name: &str| Command::PauseQueue(fixture.pause_of(queue(name)));
    let (one_more, again) = (pause("more"), pause("7"));
    assert_eq!(fixture.refused(one_more.clone()), Refusal::TooManyPaused);
    assert_eq!(fixture.accepted(again), []);
    fixture.accepted(Command::ResumeQueue(fixture.resume_queue_of(queue("7"))));
    assert_eq!(names(&fixture.accepted(one_more)), ["queue_paused"]);
}

#[test]
fn a_key_stands_for_one_request_about_a_queue() {
    let mut fixture = Fixture::new();
    let pause = PauseQueue { request: Some(request("k", 1)), ..fixture.pause_of(queue("a")) };
    fixture.accepted(Command::PauseQueue(pause.clone()));
    fixture.accepted(Command::ResumeQueue(fixture.resume_queue_of(queue("a"))));
    assert_eq!(fixture.apply(Command::PauseQueue(pause.clone())), (Ok(Reply::Done), vec![]));
    assert!(fixture.state.paused().is_empty());
    assert_eq!(fixture.state.fleet_request("k").expect("a pause").runner, None);
    let other = PauseQueue { request: Some(request("k", 2)), ..pause };
    assert_eq!(fixture.refused(Command::PauseQueue(other.clone())), Refusal::KeyReused);
    assert_eq!(Command::PauseQueue(other).level(), Level(4));
    assert_eq!(Command::ResumeQueue(fixture.resume_queue_of(queue("a"))).level(), Level(4));
}

#[test]
fn a_queue_counts_what_waits_and_runs_and_knows_since_when_the_oldest_waits() {
    let mut fixture = Fixture::with_runner();
    let first = fixture.submit(JobSpec { attempts: 2, ..of("a") });
    let submitted = fixture.now;
    fixture.tick(1_000);
    fixture.submit(JobSpec { priority: 1, ..of("a") });
    fixture.submit(JobSpec { project: "a".to_owned(), ..requiring(&["gpu"]) });
    let counts = |fixture: &Fixture| {
        let requirements = Requirements::default();
        let mut queues = fixture.state.queues().of(&requirements);
        let (project, queue) = queues.next().expect("a queue");
        assert_eq!((project, queues.count()), ("a", 0));
        (queue.queued(), queue.running(), queue.oldest_queued())
    };
    assert_eq!(counts(&fixture), (2, 0, Some(submitted)));
    let lease = fixture.grant(first, "r1");
    assert_eq!(counts(&fixture), (1, 1, Some(submitted.plus(1_000))));
    fixture.tick(1_000);
    fixture.finish_transiently(first, lease);
    assert_eq!(counts(&fixture), (2, 0, Some(submitted.plus(1_000))), "it waits anew");
    fixture.tick(60_000);
    let lease = fixture.grant(first, "r1");
    fixture.finish(first, lease, Final::Succeeded);
    assert_eq!(counts(&fixture), (1, 0, Some(submitted.plus(1_000))));
}
