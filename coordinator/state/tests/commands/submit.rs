//! Submissions: acceptance, keys and the history.

use baton_state::{
    Archive, Command, EventKind, Executor, JobId, JobSpec, Level, Phase, Refusal, Reply,
    Requirements, Source, Trace, Tree, Workspace, command::Submit,
};

use crate::{
    fixture::{Fixture, of_level, request},
    spec,
};

fn keyed(fixture: &Fixture, key: &str, digest: u8) -> Submit {
    Submit { request: Some(request(key, digest)), ..fixture.submission(spec::plain()) }
}

#[test]
fn a_submitted_job_waits_for_a_runner() {
    let mut fixture = Fixture::new();
    let submission = fixture.submission(spec::plain());
    let job = submission.id;
    let (reply, events) = fixture.apply(Command::Submit(submission));
    assert_eq!(reply, Ok(Reply::Job(job)));
    assert_eq!(events, [EventKind::JobSubmitted { job, by: "ann".to_owned() }]);
    assert_eq!(fixture.job(job).phase, Phase::Queued { not_before: None });
    assert_eq!(fixture.queue(), [job]);
}

#[test]
fn a_source_that_older_members_do_not_know_waits_until_all_know_it() {
    let fixture = Fixture::new();
    let level = |source| {
        let spec = JobSpec { source, ..spec::plain() };
        Command::Submit(fixture.submission(spec)).level()
    };
    let archive = Archive { digest: "00".repeat(32), size: 1 };
    assert_eq!(level(None), Level(1));
    assert_eq!(level(Some(Source::Archive(archive))), Level(1));
    let workspace = Workspace { path: "app".to_owned() };
    assert_eq!(level(Some(Source::Workspace(workspace))), Level(2));
    let tree = Tree { digest: "00".repeat(32), size: 1, content: 2 };
    assert_eq!(level(Some(Source::Tree(tree))), Level(3));
    let newer = Command::Submit(fixture.submission(of_level(Level(3))));
    assert_eq!(newer.level(), Level(3), "what it requires of runners is as new");
}

#[test]
fn a_workspace_in_a_container_or_on_a_target_is_for_newer_runners_and_a_trace_for_all() {
    let level = |executor| {
        let requirements = Requirements { executor, ..Requirements::default() };
        let source = Some(Source::Workspace(Workspace { path: "app".to_owned() }));
        JobSpec { requirements, source, ..spec::plain() }.runner_level()
    };
    assert_eq!(level(Executor::Local), Level(2));
    assert_eq!(level(Executor::Docker), Level(3));
    assert_eq!(level(Executor::Ssh("far".to_owned())), Level(3));
    let trace = Some(Trace { parent: "00".to_owned(), state: String::new() });
    let traced = JobSpec { trace, ..spec::plain() };
    assert_eq!((traced.level(), traced.runner_level()), (Level(3), Level(1)));
}

#[test]
fn a_taken_id_is_refused() {
    let mut fixture = Fixture::new();
    let submission = fixture.submission(spec::plain());
    fixture.accepted(Command::Submit(submission.clone()));
    let id = submission.id;
    assert_eq!(fixture.refused(Command::Submit(submission)), Refusal::JobIdTaken(id));
}

#[test]
fn a_repeated_request_gets_the_first_answer_even_with_another_id() {
    let mut fixture = Fixture::new();
    let first = keyed(&fixture, "k", 1);
    let job = first.id;
    fixture.accepted(Command::Submit(first));
    let again = keyed(&fixture, "k", 1);
    assert_ne!(again.id, job);
    assert_eq!(fixture.apply(Command::Submit(again)), (Ok(Reply::Job(job)), vec![]));
    assert_eq!(fixture.state.jobs().len(), 1);
}

#[test]
fn a_key_with_another_request_is_refused() {
    let mut fixture = Fixture::new();
    fixture.accepted(Command::Submit(keyed(&fixture, "k", 1)));
    let other = keyed(&fixture, "k", 2);
    assert_eq!(fixture.refused(Command::Submit(other)), Refusal::KeyReused);
}

#[test]
fn after_an_eviction_an_older_look_into_the_history_is_refused() {
    let mut fixture = Fixture::new();
    let first = keyed(&fixture, "k", 1);
    let job = first.id;
    fixture.accepted(Command::Submit(first));
    // This proposer looks now, finds nothing, and is slow.
    let slow = keyed(&fixture, "k", 1);
    fixture.cancel(job);
    fixture.evict(fixture.state.applied());
    assert_eq!(fixture.refused(Command::Submit(slow)), Refusal::HistoryMoved);
    // A look after the eviction counts.
    fixture.accepted(Command::Submit(keyed(&fixture, "k", 1)));
}

#[test]
fn without_a_key_the_history_does_not_matter() {
    let mut fixture = Fixture::new();
    let job = fixture.submit(spec::plain());
    fixture.cancel(job);
    fixture.evict(fixture.state.applied());
    let submission = Submit { history_seen: 0, ..fixture.submission(spec::plain()) };
    fixture.accepted(Command::Submit(submission));
}

#[test]
fn higher_priority_goes_first_and_equals_go_by_arrival() {
    let mut fixture = Fixture::new();
    let low = fixture.submit(JobSpec { priority: -1, ..spec::plain() });
    let first = fixture.submit(spec::plain());
    // A lower id does not go before an earlier arrival.
    let early = Submit {
        id: JobId::new(baton_state::Timestamp(1), 1),
        ..fixture.submission(spec::plain())
    };
    let second = early.id;
    fixture.accepted(Command::Submit(early));
    let high = fixture.submit(JobSpec { priority: 1, ..spec::plain() });
    assert_eq!(fixture.queue(), [high, first, second, low]);
}
