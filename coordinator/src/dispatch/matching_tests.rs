//! Tests of the matching, beside it because they are as long.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use baton_state::{
    Command, Executor, Executors, JobId, JobSpec, Level, OnLost, QueueName, Requirements,
    Resources, RunnerFacts, RunnerId, State, Target, Timestamp,
    command::{Grant, PauseQueue, RegisterRunner, Submit},
};
use tokio::time::Instant;

use super::{InFlight, matches};

#[derive(Default)]
struct World {
    state: State,
    index: u64,
}

impl World {
    fn apply(&mut self, command: Command) {
        self.index += 1;
        self.state.apply(self.index, command).0.unwrap();
    }

    fn runner(&mut self, name: &str, labels: &[&str], slots: u32) {
        self.runner_with(name, labels, slots, Executors::default());
    }

    fn runner_with(&mut self, name: &str, labels: &[&str], slots: u32, executors: Executors) {
        self.register(RunnerFacts {
            id: RunnerId(name.to_owned()),
            name: name.to_owned(),
            labels: set(labels),
            slots,
            version: String::new(),
            boot_id: String::new(),
            place: String::new(),
            executors,
            ephemeral: false,
            leaving: false,
            level: RunnerFacts::UNSAID,
        });
    }

    fn register(&mut self, facts: RunnerFacts) {
        self.apply(Command::RegisterRunner(RegisterRunner { facts, at: Timestamp(0) }));
    }

    fn job(&mut self, labels: &[&str], priority: i32) -> JobId {
        self.job_on(Executor::Local, labels, priority)
    }

    fn job_on(&mut self, executor: Executor, labels: &[&str], priority: i32) -> JobId {
        let level = Level::default();
        self.job_for(Requirements { labels: set(labels), executor, level }, priority)
    }

    fn job_for(&mut self, requirements: Requirements, priority: i32) -> JobId {
        self.job_of("", requirements, priority)
    }

    fn job_of(&mut self, project: &str, requirements: Requirements, priority: i32) -> JobId {
        let id = JobId::new(Timestamp(self.index), 0);
        let spec = Arc::new(JobSpec {
            command: vec!["true".to_owned()],
            name: String::new(),
            project: project.to_owned(),
            env: Default::default(),
            requirements,
            priority,
            soft_timeout: 1,
            timeout: 1,
            queue_timeout: None,
            attempts: 1,
            on_lost: OnLost::Fail,
            source: None,
            output_limit: 1,
            container: None,
            resources: Resources::default(),
            artifacts: None,
            caches: Vec::new(),
            inputs: Vec::new(),
            masks: Default::default(),
            trace: None,
        });
        self.apply(Command::Submit(Submit {
            id,
            spec,
            at: Timestamp(0),
            by: String::new(),
            retry_of: None,
            request: None,
            history_seen: 0,
        }));
        id
    }

    fn pause(&mut self, project: &str) {
        let queue = QueueName::of(project, &Requirements::default());
        let (by, request) = (String::new(), None);
        let pause = PauseQueue { queue, at: Timestamp(0), by, request, history_seen: 0 };
        self.apply(Command::PauseQueue(pause));
    }

    fn grants(&self, in_flight: &InFlight) -> Vec<(JobId, String)> {
        let grants = matches(&self.state, |_| true, in_flight, 100);
        grants.into_iter().map(|(job, runner)| (job, runner.0)).collect()
    }
}

fn set(labels: &[&str]) -> BTreeSet<String> {
    labels.iter().map(ToString::to_string).collect()
}

#[test]
fn priority_goes_before_arrival_also_between_queues() {
    let mut world = World::default();
    world.runner("r", &["gpu"], 3);
    let [first, second] = [0; 2].map(|_| world.job(&[], 0));
    let urgent = world.job(&["gpu"], 5);
    let late = world.job(&[], 0);
    let grants: Vec<JobId> =
        world.grants(&InFlight::default()).into_iter().map(|(job, _)| job).collect();
    assert_eq!(grants, [urgent, first, second]);
    assert!(!grants.contains(&late), "there are three slots");
}

#[test]
fn jobs_of_all_projects_are_taken_by_priority_and_arrival_but_for_paused_queues() {
    let mut world = World::default();
    world.runner("r", &[], 4);
    let mut job =
        |project: &str, priority| world.job_of(project, Requirements::default(), priority);
    let (a, b, c) = (job("a", 0), job("b", 0), job("c", 9));
    let (second_a, urgent_b) = (job("a", 0), job("b", 5));
    let granted = |world: &World| -> Vec<JobId> {
        world.grants(&InFlight::default()).into_iter().map(|(job, _)| job).collect()
    };
    assert_eq!(granted(&world), [c, urgent_b, a, b]);
    world.pause("b");
    assert_eq!(granted(&world), [c, a, second_a]);
    world.pause("a");
    world.pause("c");
    assert_eq!(granted(&world), []);
}

#[test]
fn a_job_goes_only_where_all_its_labels_are() {
    let mut world = World::default();
    world.runner("plain", &[], 5);
    world.runner("both", &["gpu", "os=linux"], 1);
    let gpu = world.job(&["gpu", "os=linux"], 0);
    let other = world.job(&["gpu", "os=mac"], 0);
    assert_eq!(world.grants(&InFlight::default()), [(gpu, "both".to_owned())]);
    assert!(world.state.job(other).is_some());
}

#[test]
fn a_job_that_older_runners_would_not_understand_waits_for_a_newer_one_and_others_pass_it() {
    let mut world = World::default();
    world.runner("r", &[], 2);
    let requirements = Requirements { level: Level(3), ..Requirements::default() };
    let new = world.job_for(requirements, 1);
    let plain = world.job(&[], 0);
    assert_eq!(world.grants(&InFlight::default()), [(plain, "r".to_owned())]);
    let facts = world.state.runner(&RunnerId("r".to_owned())).unwrap().facts.clone();
    world.register(RunnerFacts { level: Level(3), ..facts });
    let grants = [new, plain].map(|job| (job, "r".to_owned()));
    assert_eq!(world.grants(&InFlight::default()), grants);
}

#[test]
fn jobs_spread_over_the_runners_with_the_most_free_slots() {
    let mut world = World::default();
    world.runner("large", &[], 3);
    world.runner("small", &[], 2);
    for _ in 0..5 {
        world.job(&[], 0);
    }
    let runners: Vec<String> =
        world.grants(&InFlight::default()).into_iter().map(|(_, runner)| runner).collect();
    assert_eq!(runners, ["large", "large", "small", "large", "small"]);
}

#[test]
fn what_is_in_flight_is_neither_granted_again_nor_counted_as_free() {
    let mut world = World::default();
    world.runner("r", &[], 2);
    let first = world.job(&[], 0);
    let second = world.job(&[], 0);
    let third = world.job(&[], 0);
    let mut in_flight = InFlight::default();
    in_flight.begin(first, RunnerId("r".to_owned()));
    assert_eq!(world.grants(&in_flight), [(second, "r".to_owned())]);
    in_flight.end(first);
    assert_eq!(world.grants(&in_flight).len(), 2);
    assert!(world.state.job(third).is_some());
}

#[test]
fn a_job_goes_where_its_executor_is() {
    let mut world = World::default();
    let docker = Executors { local: false, docker: true, targets: Default::default() };
    world.runner("local", &[], 5);
    world.runner_with("docker", &[], 5, docker);
    let local = world.job(&[], 0);
    let docker = world.job_on(Executor::Docker, &[], 0);
    world.job_on(Executor::Ssh("far".to_owned()), &[], 0);
    let grants = world.grants(&InFlight::default());
    assert_eq!(grants, [(local, "local".to_owned()), (docker, "docker".to_owned())]);
}

#[test]
fn a_target_takes_no_more_than_its_slots_and_has_labels_of_its_own() {
    let mut world = World::default();
    let target = |slots| Target { labels: set(&["zone=a"]), slots };
    let targets = [("one".to_owned(), target(1)), ("two".to_owned(), target(2))].into();
    world.runner_with("r", &["gpu"], 5, Executors { local: true, docker: false, targets });
    let on = |target: &str| Executor::Ssh(target.to_owned());
    let first = world.job_on(on("one"), &["gpu", "zone=a"], 0);
    let second = world.job_on(on("one"), &["gpu"], 0);
    let third = world.job_on(on("two"), &[], 0);
    world.job(&["zone=a"], 0);
    let granted = |world: &World, in_flight: &InFlight| -> Vec<JobId> {
        world.grants(in_flight).into_iter().map(|(job, _)| job).collect()
    };
    assert_eq!(granted(&world, &InFlight::default()), [first, third]);
    let mut in_flight = InFlight::default();
    in_flight.begin(first, RunnerId("r".to_owned()));
    assert_eq!(granted(&world, &in_flight), [third]);
    in_flight.end(first);
    let grant = Grant { job: first, runner: RunnerId("r".to_owned()), at: Timestamp(1) };
    world.apply(Command::Grant(grant));
    assert_eq!(granted(&world, &InFlight::default()), [third]);
    assert!(world.state.job(second).is_some());
}

#[test]
fn without_a_session_a_runner_gets_nothing() {
    let mut world = World::default();
    world.runner("r", &[], 2);
    world.job(&[], 0);
    assert!(matches(&world.state, |_| false, &InFlight::default(), 100).is_empty());
}

#[test]
fn a_long_queue_makes_a_grant_no_dearer() {
    let time = |jobs: usize| {
        let mut world = World::default();
        world.runner("r", &[], 10);
        for _ in 0..jobs {
            world.job(&[], 0);
            world.job_of("paused", Requirements::default(), 1);
        }
        world.pause("paused");
        let measure = || {
            let start = Instant::now();
            for _ in 0..200 {
                assert_eq!(world.grants(&InFlight::default()).len(), 10);
            }
            start.elapsed()
        };
        // The quickest of some: the machine does other things too.
        (0..7).map(|_| measure()).min().unwrap_or(Duration::MAX)
    };
    let (short, long) = (time(100), time(50_000));
    assert!(long < short * 20, "500 times the jobs took {long:?} instead of {short:?}");
}
