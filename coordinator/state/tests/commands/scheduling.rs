//! Which runners are given jobs: what operators say, and what runners say of themselves.

use baton_state::{
    AtDeadline, Command, Executors, Final, JobId, JobSpec, Lease, Level, Member, OnLost, Refusal,
    Reply,
    command::{
        CordonRunner, FoundCluster, LiftQuarantine, LossCause, RegisterRunner, RemoveRunner,
        ResumeRunner, SetHealth, SetLabels,
    },
    explain::{WaitReason, explain},
    runner::{HOST, RunnerFacts},
};

use crate::{
    fixture::{Fixture, attempts, id, names, on_lost, request, requiring},
    members::member,
    spec,
};

/// A job that runs on `r1`, which is to be empty within a second.
fn draining(spec: JobSpec, then: AtDeadline) -> (Fixture, JobId, Lease) {
    let (mut fixture, job, lease) = Fixture::with_lease(spec);
    let drain = fixture.drain_of("r1", 1_000, then);
    fixture.accepted(Command::DrainRunner(drain));
    (fixture, job, lease)
}

fn register(fixture: &mut Fixture, facts: RunnerFacts) {
    let at = fixture.now;
    fixture.accepted(Command::RegisterRunner(RegisterRunner { facts, at }));
}

#[test]
fn a_cordoned_runner_takes_no_job_and_keeps_those_it_has_until_it_is_resumed() {
    let (mut fixture, running, lease) = Fixture::with_lease(spec::plain());
    let cordon = Command::CordonRunner(fixture.cordon_of("r1"));
    assert_eq!(names(&fixture.accepted(cordon.clone())), ["runner_scheduling"]);
    assert_eq!(fixture.accepted(cordon), [], "it is cordoned already");
    let job = fixture.submit(spec::plain());
    assert_eq!(fixture.refused(fixture.grant_of(job, "r1")), Refusal::RunnerClosed);
    let why = explain(&fixture.state, job, fixture.now).expect("it waits");
    assert_eq!(why.reason, WaitReason::RunnersCordoned);
    assert_eq!(why.message, "cordoned: name of r1");
    fixture.finish(running, lease, Final::Succeeded);

    // Neither a new session nor a restart of its host makes it take jobs.
    fixture.unreachable("r1");
    fixture.register("r1", &[], 2);
    assert_eq!(fixture.refused(fixture.grant_of(job, "r1")), Refusal::RunnerClosed);
    let resume = Command::ResumeRunner(fixture.resume_of("r1"));
    assert_eq!(names(&fixture.accepted(resume.clone())), ["runner_scheduling"]);
    assert_eq!(fixture.accepted(resume), []);
    fixture.grant(job, "r1");
}

#[test]
fn what_still_runs_at_the_deadline_is_asked_for_and_waits_for_another_runner() {
    let (mut fixture, job, lease) = draining(attempts(1), AtDeadline::Requeue);
    assert_eq!(fixture.state.next_due(), Some(fixture.now.plus(1_000)));
    assert_eq!(fixture.tick(999), []);
    assert_eq!(names(&fixture.tick(1)), ["runner_scheduling", "job_recalled"]);
    assert_eq!(fixture.state.next_due(), None);
    assert_eq!(fixture.job(job).lease(), Some(lease), "until the proof is there");
    assert_eq!(names(&fixture.finish(job, lease, Final::Cancelled)), ["job_requeued"]);
    assert!(fixture.is_ready(job));
    let attempt = &fixture.job(job).attempts[0];
    let outcome = attempt.outcome.as_ref().expect("it is over");
    assert_eq!(outcome.reason, "DRAINED");

    // It was the only attempt that the job may have, and does not count.
    fixture.register("r2", &[], 1);
    let lease = fixture.grant(job, "r2");
    fixture.finish(job, lease, Final::Succeeded);
    assert_eq!(fixture.end(job).0.state, Final::Succeeded);
}

#[test]
fn an_attempt_that_was_asked_for_and_ends_otherwise_is_as_any_other() {
    for (state, events) in [(Final::Succeeded, "job_finished"), (Final::Failed, "job_finished")] {
        let (mut fixture, job, lease) = draining(attempts(2), AtDeadline::Requeue);
        fixture.tick(1_000);
        assert_eq!(names(&fixture.finish(job, lease, state)), [events]);
        assert_eq!(fixture.end(job).0.state, state);
    }
    let (mut fixture, job, lease) = draining(attempts(1), AtDeadline::Requeue);
    fixture.tick(1_000);
    fixture.lose(job, lease, LossCause::Expired);
    assert_eq!(fixture.end(job).0.state, Final::Lost, "a loss counts");
    let (mut fixture, job, lease) = draining(attempts(2), AtDeadline::Requeue);
    fixture.tick(1_000);
    fixture.cancel(job);
    fixture.finish(job, lease, Final::Cancelled);
    assert_eq!(fixture.end(job).0.state, Final::Cancelled, "somebody cancelled it as well");
}

#[test]
fn a_job_that_must_not_run_twice_goes_on_at_the_deadline() {
    for policy in [OnLost::Fail, OnLost::Wait] {
        let (mut fixture, job, lease) = draining(on_lost(policy, 3), AtDeadline::Requeue);
        assert_eq!(names(&fixture.tick(1_000)), ["runner_scheduling"]);
        fixture.finish(job, lease, Final::Succeeded);
        assert_eq!(fixture.end(job).0.state, Final::Succeeded);
    }
    let (mut fixture, ..) = draining(spec::plain(), AtDeadline::Wait);
    assert_eq!(fixture.state.next_due(), None);
    assert_eq!(fixture.tick(1_000), []);
}

#[test]
fn what_still_runs_at_the_deadline_is_cancelled_with_the_reason() {
    let (mut fixture, job, lease) = draining(attempts(2), AtDeadline::Cancel);
    assert_eq!(names(&fixture.tick(1_000)), ["runner_scheduling", "cancel_requested"]);
    let cancellation = fixture.job(job).cancellation.clone().expect("it is cancelled");
    assert_eq!(cancellation.by, "ann");
    assert!(cancellation.reason.contains("name of r1 is being drained"), "{cancellation:?}");
    fixture.finish(job, lease, Final::Cancelled);
    assert_eq!(fixture.end(job).0.state, Final::Cancelled);
}

#[test]
fn the_newest_drain_counts_and_a_resumed_runner_has_no_deadline() {
    let (mut fixture, job, _) = draining(attempts(2), AtDeadline::Requeue);
    let later = fixture.drain_of("r1", 5_000, AtDeadline::Requeue);
    fixture.accepted(Command::DrainRunner(later));
    assert_eq!(fixture.tick(1_000), []);
    let why = fixture.submit(spec::plain());
    let why = explain(&fixture.state, why, fixture.now).expect("it waits");
    assert_eq!(why.message, "draining: name of r1");
    let resume = fixture.resume_of("r1");
    fixture.accepted(Command::ResumeRunner(resume));
    assert_eq!(fixture.tick(60_000), []);
    assert!(!fixture.job(job).is_recalled());
}

#[test]
fn granted_and_hidden_labels_outlast_the_sessions_and_decide_what_a_runner_offers() {
    let mut fixture = of_newest_members();
    fixture.register("r1", &["old", "linux"], 9);
    let labels = Command::SetLabels(fixture.labels_of("r1", &["gpu"], &["old"]));
    assert_eq!(names(&fixture.accepted(labels.clone())), ["runner_labels"]);
    assert_eq!(fixture.accepted(labels), []);
    fixture.register("r1", &["old", "linux", "new"], 9);
    let runner = fixture.state.runner(&id("r1")).expect("it is registered");
    assert_eq!(runner.labels(), ["gpu", "linux", "new"].into());
    let job = fixture.submit(requiring(&["gpu", "linux"]));
    fixture.grant(job, "r1");
    let job = fixture.submit(requiring(&["old"]));
    assert_eq!(fixture.refused(fixture.grant_of(job, "r1")), Refusal::RequirementsNotMet);
    // The other sign takes back what was said before.
    let labels = Command::SetLabels(fixture.labels_of("r1", &["old"], &["gpu"]));
    fixture.accepted(labels);
    fixture.grant(job, "r1");
    let runner = fixture.state.runner(&id("r1")).expect("it is registered");
    assert_eq!(runner.labels(), ["linux", "new", "old"].into());
    assert!(runner.granted.is_empty() && runner.hidden.is_empty());
    // Once more, it counts whatever the runner says.
    let labels = Command::SetLabels(fixture.labels_of("r1", &["old"], &["gpu"]));
    fixture.accepted(labels);
    fixture.register("r1", &["gpu"], 9);
    let runner = fixture.state.runner(&id("r1")).expect("it is registered");
    assert_eq!(runner.labels(), ["old"].into());
    let many: Vec<String> = (0..101).map(|n| format!("l{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let labels = Command::SetLabels(fixture.labels_of("r1", &many, &[]));
    assert_eq!(fixture.refused(labels), Refusal::TooManyLabels);
}

#[test]
fn a_key_stands_for_one_request_about_a_runner() {
    let mut fixture = Fixture::with_runner();
    let key = Some(request("k", 1));
    let cordon = CordonRunner { request: key.clone(), ..fixture.cordon_of("r1") };
    fixture.accepted(Command::CordonRunner(cordon.clone()));
    let resume = fixture.resume_of("r1");
    fixture.accepted(Command::ResumeRunner(resume.clone()));
    assert_eq!(fixture.apply(Command::CordonRunner(cordon)), (Ok(Reply::Done), vec![]));
    assert!(fixture.state.runner(&id("r1")).is_some_and(|runner| runner.cordon.is_none()));
    let other = ResumeRunner { request: Some(request("k", 2)), ..resume };
    assert_eq!(fixture.refused(Command::ResumeRunner(other)), Refusal::KeyReused);
}

#[test]
fn an_ephemeral_runner_never_has_a_second_lease() {
    let mut fixture = Fixture::new();
    let facts = RunnerFacts { ephemeral: true, ..Fixture::facts("r1", &[], 4) };
    register(&mut fixture, facts.clone());
    let [first, second] = [0; 2].map(|_| fixture.submit(spec::plain()));
    let lease = fixture.grant(first, "r1");
    assert_eq!(fixture.refused(fixture.grant_of(second, "r1")), Refusal::RunnerClosed);
    // Also when it was away, and when the job it had is over.
    fixture.unreachable("r1");
    register(&mut fixture, RunnerFacts { boot_id: "another".to_owned(), ..facts });
    assert_eq!(fixture.refused(fixture.grant_of(second, "r1")), Refusal::RunnerClosed);
    let leaving = RemoveRunner { left: true, ..fixture.removal_of("r1") };
    let leaving = Command::RemoveRunner(leaving);
    assert_eq!(fixture.refused(leaving.clone()), Refusal::RunnerHoldsLeases(1));
    fixture.finish(first, lease, Final::Succeeded);
    assert_eq!(fixture.refused(fixture.grant_of(second, "r1")), Refusal::RunnerClosed);
    let asked = Command::RemoveRunner(fixture.removal_of("r1"));
    assert_eq!(fixture.refused(asked), Refusal::RunnerOnline);
    assert_eq!(names(&fixture.accepted(leaving)), ["runner_removed"]);
}

#[test]
fn a_runner_that_leaves_takes_no_job_until_it_is_there_again() {
    let mut fixture = Fixture::with_runner();
    let job = fixture.submit(spec::plain());
    let facts = RunnerFacts { leaving: true, ..Fixture::facts("r1", &[], 2) };
    register(&mut fixture, facts);
    assert_eq!(fixture.refused(fixture.grant_of(job, "r1")), Refusal::RunnerClosed);
    fixture.register("r1", &[], 2);
    fixture.grant(job, "r1");
}

/// In a cluster whose members all know the newest rules.
fn of_newest_members() -> Fixture {
    let mut fixture = Fixture::new();
    let (node, at) = (baton_state::NodeId(1), fixture.now);
    let member = Member { level: Level::NEWEST, ..member("a") };
    let cluster_id = "cluster".to_owned();
    fixture.accepted(Command::FoundCluster(FoundCluster { cluster_id, node, member, at }));
    fixture
}

#[test]
fn a_runner_with_another_version_or_other_executors_is_healthy_until_it_says_otherwise() {
    let mut fixture = of_newest_members();
    fixture.register("r1", &[], 2);
    let is_ill = |fixture: &Fixture| !fixture.state.runners()[&id("r1")].unhealthy.is_empty();
    let others = [
        RunnerFacts { version: "2".to_owned(), ..Fixture::facts("r1", &[], 2) },
        RunnerFacts {
            executors: Executors { docker: true, ..Executors::default() },
            ..Fixture::facts("r1", &[], 2)
        },
    ];
    for other in others {
        let unhealthy = [("local".to_owned(), "no".to_owned())].into();
        let ill = SetHealth { runner: id("r1"), unhealthy, at: fixture.now };
        fixture.accepted(Command::SetHealth(ill));
        fixture.unreachable("r1");
        let same = fixture.state.runners()[&id("r1")].facts.clone();
        register(&mut fixture, same);
        assert!(is_ill(&fixture), "it has only come back");
        register(&mut fixture, other);
        assert!(!is_ill(&fixture));
    }
}

#[test]
fn a_lifted_quarantine_lets_executors_take_jobs_and_leaves_the_host_as_it_is() {
    let mut fixture = Fixture::new();
    fixture.register_of(Level(3), "r1");
    let unhealthy = [("local", "no shell"), (HOST, "disk full")];
    let unhealthy = unhealthy.map(|(name, problem)| (name.to_owned(), problem.to_owned()));
    let ill = SetHealth { runner: id("r1"), unhealthy: unhealthy.into(), at: fixture.now };
    fixture.accepted(Command::SetHealth(ill));
    let lift = fixture.lift_of("r1");
    assert_eq!(fixture.refused(Command::LiftQuarantine(lift.clone())), Refusal::RunnerTooOld);
    fixture.register_of(Level(4), "r1");
    let lift = LiftQuarantine { request: Some(request("k", 1)), ..lift };
    let events = fixture.accepted(Command::LiftQuarantine(lift.clone()));
    assert_eq!(names(&events), ["quarantine_lifted", "runner_health"]);
    let left: Vec<_> = fixture.state.runners()[&id("r1")].unhealthy.keys().collect();
    assert_eq!(left, [HOST]);
    assert_eq!(fixture.accepted(Command::LiftQuarantine(lift)), [], "it was lifted by this key");
    let again = Command::LiftQuarantine(fixture.lift_of("r1"));
    assert_eq!(names(&fixture.accepted(again)), ["quarantine_lifted"], "the runner forgets anew");
    fixture.unreachable("r1");
    let gone = Command::LiftQuarantine(fixture.lift_of("r1"));
    assert_eq!(fixture.refused(gone), Refusal::RunnerUnreachable);
    let unknown = Command::LiftQuarantine(fixture.lift_of("r2"));
    assert_eq!(fixture.refused(unknown), Refusal::UnknownRunner);
}

#[test]
fn only_new_members_know_what_is_said_about_scheduling() {
    let fixture = Fixture::with_runner();
    let by = String::new();
    let left = RemoveRunner { left: true, ..fixture.removal_of("r1") };
    let commands = [
        Command::CordonRunner(fixture.cordon_of("r1")),
        Command::DrainRunner(fixture.drain_of("r1", 0, AtDeadline::Wait)),
        Command::ResumeRunner(ResumeRunner { by: by.clone(), ..fixture.resume_of("r1") }),
        Command::SetLabels(SetLabels { by, ..fixture.labels_of("r1", &[], &[]) }),
        Command::RemoveRunner(left),
    ];
    assert!(commands.iter().all(|command| command.level() == Level(3)));
    assert_eq!(Command::RemoveRunner(fixture.removal_of("r1")).level(), Level(1));
    let by = "ann".to_owned();
    let named = [
        Command::ResumeRunner(fixture.resume_of("r1")),
        Command::SetLabels(fixture.labels_of("r1", &[], &[])),
        Command::RemoveRunner(RemoveRunner { by, ..fixture.removal_of("r1") }),
        Command::LiftQuarantine(fixture.lift_of("r1")),
    ];
    assert!(named.iter().all(|command| command.level() == Level(4)));
}
