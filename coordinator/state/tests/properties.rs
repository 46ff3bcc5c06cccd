//! What holds of every log: random commands, most of them to the point and many
//! of them stale, over few jobs, runners and keys, so that they meet.

#![allow(clippy::expect_used, reason = "a test fails by a panic")]

mod support;

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use baton_state::{
    Command, EventKind, Index, Job, JobId, Lease, Phase, Refusal, Reply, Request, RunnerId, State,
    Timestamp,
    command::{RemoveRunner, Submit},
    invariants, snapshot,
};
use proptest::{
    collection::vec,
    prelude::*,
    sample::Index as Pick,
    strategy::ValueTree,
    test_runner::{FileFailurePersistence, TestRunner},
};
use support::{
    action::{Step, steps},
    classes::{EXPECTED, classes},
    closing::close,
    keys::{Keys, unchanged},
    spec,
    world::{World, finished, replay},
};

const LENGTH: usize = 200;

fn config() -> ProptestConfig {
    let persistence = FileFailurePersistence::WithSource("regressions");
    ProptestConfig { failure_persistence: Some(Box::new(persistence)), ..Default::default() }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn a_snapshot_and_the_tail_give_what_the_whole_log_gives(
        steps in steps(LENGTH),
        cut in any::<Pick>(),
    ) {
        let world = World::after(&steps);
        let (head, tail) = world.log.split_at(cut.index(world.log.len() + 1));

        let mut replayed = State::default();
        prop_assert_eq!(&replay(&mut replayed, head), head);
        let mut loaded = snapshot::decode(&snapshot::encode(&replayed))?;
        prop_assert_eq!(&loaded, &replayed);

        prop_assert_eq!(&replay(&mut replayed, tail), tail);
        prop_assert_eq!(&replay(&mut loaded, tail), tail);
        let bytes = snapshot::encode(&world.state);
        prop_assert_eq!(snapshot::encode(&replayed), bytes.clone());
        prop_assert_eq!(snapshot::encode(&loaded), bytes);
    }

    #[test]
    fn the_invariants_hold_after_every_step(steps in steps(LENGTH)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
            let checked = invariants::check(&world.state);
            prop_assert!(checked.is_ok(), "{checked:?}");
        }
    }

    #[test]
    fn the_key_of_the_tokens_of_jobs_stays_once_it_is_there(steps in steps(LENGTH)) {
        let mut world = World::new();
        for step in &steps {
            let before = world.state.job_token_key().cloned();
            world.take(step);
            prop_assert!(before.is_none() || world.state.job_token_key() == before.as_ref());
        }
    }

    #[test]
    fn a_lease_is_new_and_the_only_one_of_its_job_and_has_a_slot(steps in steps(LENGTH)) {
        let mut world = World::new();
        let mut newest = Lease(0);
        for step in &steps {
            let before = world.state.clone();
            let entry = world.take(step).clone();
            for event in &entry.events {
                let EventKind::JobLeased { job, lease, runner } = &event.kind else { continue };
                prop_assert!(*lease > newest);
                newest = *lease;
                prop_assert_eq!(before.job(*job).and_then(Job::lease), None);
                prop_assert_eq!(world.state.job(*job).and_then(Job::lease), Some(*lease));
                let runner = world.state.runner(runner).expect("a lease has a runner");
                prop_assert!(runner.leases.len() <= runner.facts.slots as usize);
                prop_assert_eq!(runner.leases.get(lease), Some(job));
            }
            let mut leased = BTreeSet::new();
            for job in world.state.runners().values().flat_map(|runner| runner.leases.values()) {
                prop_assert!(leased.insert(*job), "{job} has two leases");
            }
            prop_assert_eq!(leased.len(), world.state.leased());
        }
    }

    #[test]
    fn an_accepted_job_ends_exactly_once(steps in steps(LENGTH)) {
        let mut world = World::after(&steps);
        close(&mut world);
        let mut accepted = BTreeSet::new();
        let mut ends: BTreeMap<JobId, usize> = BTreeMap::new();
        for event in world.log.iter().flat_map(|entry| &entry.events) {
            match &event.kind {
                EventKind::JobSubmitted { job, .. } => prop_assert!(accepted.insert(*job)),
                EventKind::JobFinished { job } => *ends.entry(job.id).or_default() += 1,
                _ => {}
            }
        }
        let once: BTreeMap<JobId, usize> = accepted.into_iter().map(|job| (job, 1)).collect();
        prop_assert_eq!(ends, once);
    }

    #[test]
    fn a_finished_job_stays_as_it_is_until_it_is_evicted(steps in steps(LENGTH)) {
        let mut world = World::new();
        let mut ended: BTreeMap<JobId, Job> = BTreeMap::new();
        for step in &steps {
            let entry = world.take(step).clone();
            ended.extend(finished(&entry).map(|job| (job.id, job.clone())));
            for event in &entry.events {
                if let EventKind::JobEvicted { job } = event.kind {
                    prop_assert!(ended.remove(&job).is_some());
                    prop_assert_eq!(world.state.job(job), None);
                }
            }
            for job in ended.values() {
                prop_assert_eq!(world.state.job(job.id), Some(job));
            }
        }
    }

    #[test]
    fn a_refused_command_changes_nothing(steps in steps(LENGTH)) {
        let mut world = World::new();
        for step in &steps {
            let before = world.state.clone();
            let entry = world.take(step).clone();
            if entry.reply.is_err() {
                prop_assert!(entry.events.is_empty());
                unchanged(before, &world.state)?;
            }
        }
    }

    #[test]
    fn a_stale_lease_is_refused(steps in steps(LENGTH)) {
        let mut world = World::new();
        for step in &steps {
            let before = world.state.clone();
            let entry = world.take(step).clone();
            let Some((job, lease)) = lease_of(&entry.command) else { continue };
            match before.job(job) {
                None => prop_assert_eq!(entry.reply, Err(Refusal::UnknownJob(job))),
                Some(job) if job.lease() != Some(lease) => {
                    prop_assert_eq!(entry.reply, Err(Refusal::StaleLease(lease)));
                }
                Some(_) => {
                    prop_assert!(matches!(entry.reply, Ok(Reply::Done) | Err(Refusal::LeaseKept)));
                }
            }
        }
    }

    #[test]
    fn a_key_stands_for_one_request_until_the_history_has_it(steps in steps(LENGTH)) {
        let mut world = World::new();
        let mut keys = Keys::default();
        for step in &steps {
            let before = world.state.clone();
            let entry = world.take(step).clone();
            keys.check(before, &entry, &world.state)?;
        }
        for (request, reply) in keys.taken() {
            for digest in [request.digest, [0xff; 32]] {
                let request = Request { digest, ..request.clone() };
                let before = world.state.clone();
                let again = match reply {
                    Reply::Done => removal(request),
                    Reply::Job(_) | Reply::Lease(_) => submission(request),
                };
                let entry = world.next(again).clone();
                keys.check(before, &entry, &world.state)?;
            }
        }
    }

    #[test]
    fn a_queue_is_ordered_by_priority_then_by_arrival(steps in steps(LENGTH)) {
        let mut world = World::new();
        let mut arrivals: BTreeMap<JobId, Index> = BTreeMap::new();
        for step in &steps {
            let entry = world.take(step).clone();
            for event in &entry.events {
                if let EventKind::JobSubmitted { job, .. } = event.kind {
                    arrivals.insert(job, entry.index);
                }
            }
            let jobs = world.state.jobs().values();
            let ready = jobs.filter(|job| job.phase == Phase::Queued { not_before: None });
            let mut expected: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for job in ready {
                // The arrival is the submission's, however often the job was queued again.
                let place = (Reverse(job.spec.priority), arrivals[&job.id], job.id);
                let queue = (&job.spec.requirements, job.spec.project.as_str());
                expected.entry(queue).or_default().push(place);
            }
            let expected: BTreeMap<_, Vec<JobId>> = expected
                .into_iter()
                .map(|(queue, mut places)| {
                    places.sort_unstable();
                    (queue, places.into_iter().map(|(.., job)| job).collect())
                })
                .collect();
            let queues = world.state.queues().iter().flat_map(|(requirements, projects)| {
                projects.iter().map(move |(project, queue)| ((requirements, project.as_str()), queue))
            });
            let queues: BTreeMap<_, Vec<JobId>> = queues
                .map(|(name, queue)| (name, queue.ready().iter().map(|place| place.job).collect()))
                .filter(|(_, ready): &(_, Vec<JobId>)| !ready.is_empty())
                .collect();
            prop_assert_eq!(queues, expected);
        }
    }

    #[test]
    fn a_command_survives_the_log(steps in steps(LENGTH)) {
        for entry in World::after(&steps).log {
            prop_assert_eq!(Command::decode(&entry.command.encode())?, entry.command);
        }
    }

    #[test]
    fn damaged_bytes_never_panic(
        steps in steps(40),
        damage in vec((any::<Pick>(), any::<u8>()), 0..8),
        kept in any::<Pick>(),
        cut in any::<bool>(),
    ) {
        let world = World::after(&steps);
        let command = world.log.last().expect("there is a step").command.encode();
        for mut bytes in [snapshot::encode(&world.state), command] {
            for (position, byte) in &damage {
                let position = position.index(bytes.len());
                bytes[position] = *byte;
            }
            if cut {
                bytes.truncate(kept.index(bytes.len()));
            }
            decode_everything(&bytes);
        }
    }

    #[test]
    fn random_bytes_never_panic(mut bytes in vec(any::<u8>(), 0..200)) {
        decode_everything(&bytes);
        bytes.insert(0, 2);
        decode_everything(&bytes);
    }
}

/// Without this, a property could hold because nothing ever happened.
#[test]
fn the_actions_lead_to_every_event_and_every_answer() {
    let mut runner = TestRunner::deterministic();
    let mut tally: BTreeMap<String, usize> = BTreeMap::new();
    for _ in 0..1200 {
        let steps: Vec<Step> = steps(LENGTH).new_tree(&mut runner).expect("steps").current();
        for entry in World::after(&steps).log {
            for word in classes(&entry) {
                *tally.entry(word).or_default() += 1;
            }
        }
    }
    let often = 20;
    let rare: Vec<&str> =
        EXPECTED.into_iter().filter(|word| tally.get(*word).is_none_or(|n| *n < often)).collect();
    assert!(rare.is_empty(), "seldom or never: {rare:?} in {tally:#?}");
}

fn submission(request: Request) -> Command {
    Command::Submit(Submit {
        id: JobId::MAX,
        spec: spec::plain().into(),
        at: Timestamp(0),
        by: "ann".to_owned(),
        retry_of: None,
        request: Some(request),
        history_seen: 0,
    })
}

fn removal(request: Request) -> Command {
    let runner = RunnerId("runner-0".to_owned());
    let request = Some(request);
    let at = Timestamp(0);
    let by = String::new();
    Command::RemoveRunner(RemoveRunner { runner, at, request, history_seen: 0, left: false, by })
}

fn lease_of(command: &Command) -> Option<(JobId, Lease)> {
    match command {
        Command::Start(command) => Some((command.job, command.lease)),
        Command::Finish(command) => Some((command.job, command.lease)),
        Command::LoseLease(command) => Some((command.job, command.lease)),
        _ => None,
    }
}

fn decode_everything(bytes: &[u8]) {
    let _ = Command::decode(bytes);
    if let Ok(state) = snapshot::decode(bytes) {
        let _ = invariants::check(&state);
        assert_eq!(snapshot::decode(&snapshot::encode(&state)).expect("own bytes"), state);
    }
}
