//! What events say to whoever reads them later.

use baton_state::{
    AtDeadline, Command, EventKind, SchedulingChange,
    command::{RemoveRunner, SetHealth},
};

use crate::fixture::{Fixture, id};

const NAME: &str = "name of r1";

fn scheduling(change: SchedulingChange, by: &str) -> EventKind {
    let (runner, name, by) = (id("r1"), NAME.to_owned(), by.to_owned());
    EventKind::RunnerScheduling { runner, name, change: Some(change), by }
}

#[test]
fn an_event_about_scheduling_says_what_was_done_and_by_whom() {
    let mut fixture = Fixture::with_runner();
    let cordon = Command::CordonRunner(fixture.cordon_of("r1"));
    let cordoned = scheduling(SchedulingChange::Cordoned, "ann");
    assert_eq!(fixture.accepted(cordon), [cordoned]);
    let then = AtDeadline::Requeue;
    let drain = Command::DrainRunner(fixture.drain_of("r1", 500, then));
    let deadline = Some(fixture.now.plus(500));
    let draining = scheduling(SchedulingChange::Draining { deadline, then }, "ann");
    assert_eq!(fixture.accepted(drain), [draining]);
    let over = scheduling(SchedulingChange::DeadlineOver { then }, "ann");
    assert_eq!(fixture.tick(500), [over]);
    let resume = Command::ResumeRunner(fixture.resume_of("r1"));
    assert_eq!(fixture.accepted(resume), [scheduling(SchedulingChange::Resumed, "ann")]);
}

#[test]
fn each_executor_that_changed_has_an_event_with_its_problem() {
    let mut fixture = Fixture::with_runner();
    let mut told = |unhealthy: &[(&str, &str)]| {
        let word = |(name, problem): &(&str, &str)| ((*name).to_owned(), (*problem).to_owned());
        let unhealthy = unhealthy.iter().map(word).collect();
        let health = SetHealth { runner: id("r1"), unhealthy, at: fixture.now };
        let events = fixture.accepted(Command::SetHealth(health));
        let told = events.into_iter().map(|event| match event {
            EventKind::RunnerHealth { executor, problem, name, .. } if name == NAME => {
                (executor, problem)
            }
            other => panic!("{other:?}"),
        });
        told.collect::<Vec<_>>()
    };
    let ill = |name: &str, problem: &str| (name.to_owned(), Some(problem.to_owned()));
    let well = |name: &str| (name.to_owned(), None);
    let both = [("docker", "no answer"), ("local", "no shell")];
    assert_eq!(told(&both), [ill("docker", "no answer"), ill("local", "no shell")]);
    assert_eq!(told(&both), []);
    let other = [("docker", "no room")];
    assert_eq!(told(&other), [well("local"), ill("docker", "no room")]);
    assert_eq!(told(&[]), [well("docker")]);
}

#[test]
fn labels_and_a_removal_say_by_whom() {
    let mut fixture = Fixture::with_runner();
    let labels = Command::SetLabels(fixture.labels_of("r1", &["gpu"], &["old"]));
    let set = |label: &str| [label.to_owned()].into();
    let changed = EventKind::RunnerLabels {
        runner: id("r1"),
        name: NAME.to_owned(),
        grant: set("gpu"),
        hide: set("old"),
        by: "ann".to_owned(),
    };
    assert_eq!(fixture.accepted(labels), [changed]);
    fixture.unreachable("r1");
    let by = "bob".to_owned();
    let removal = RemoveRunner { by: by.clone(), ..fixture.removal_of("r1") };
    let removed = EventKind::RunnerRemoved { runner: id("r1"), name: NAME.to_owned(), by };
    assert_eq!(fixture.accepted(Command::RemoveRunner(removal)), [removed]);
}

#[test]
fn an_event_of_an_earlier_version_is_read() {
    for kind in ["runner_online", "runner_health", "runner_scheduling", "runner_labels"] {
        let fields = [("type", kind), ("runner", "r1")];
        let old = rmp_serde::to_vec_named(&std::collections::BTreeMap::from(fields));
        let event: EventKind = rmp_serde::from_slice(&old.expect("a map")).expect("an event");
        assert_eq!((event.name(), event.runner()), (kind, Some(&id("r1"))));
    }
    for kind in ["member_joined", "member_changed", "member_removed"] {
        let old = rmp_serde::to_vec_named(&Old { kind, node: 2 }).expect("a map");
        let event: EventKind = rmp_serde::from_slice(&old).expect("an event");
        assert_eq!(event.name(), kind);
    }
}

#[derive(serde::Serialize)]
struct Old {
    #[serde(rename = "type")]
    kind: &'static str,
    node: u64,
}
