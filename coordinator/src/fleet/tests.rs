//! Streams over a real Raft node and history.

use std::{collections::BTreeSet, time::Duration};

use baton_proto::v1;
use baton_state::{Final, JobId, State};
use tokio::time::Instant;

use super::{
    fixtures::{Scene, Stream},
    runner_list::RunnerList,
    *,
};
use crate::{
    history::{JobFilter, JobState, Subject},
    raft::Observer as _,
};

const NOTHING: Asked = Asked {
    overview: false,
    queues: false,
    jobs: None,
    runners: false,
    members: false,
    events: None,
    interval: Duration::from_millis(50),
};

fn jobs(filter: JobFilter, limit: usize) -> Asked {
    Asked { jobs: Some(JobsAsked { filter, limit }), ..NOTHING }
}

fn events(filter: EventFilter, limit: usize) -> Asked {
    Asked { events: Some(EventsAsked { filter, limit }), ..NOTHING }
}

fn ids(changes: &v1::JobChanges) -> Vec<&str> {
    changes.changed.iter().map(|job| job.id.as_str()).collect()
}

/// Takes answers until the newest jobs that they tell of are these.
async fn until_known(stream: &mut Stream, wanted: &[JobId]) -> usize {
    let wanted: BTreeSet<_> = wanted.iter().map(ToString::to_string).collect();
    let (mut known, mut resets) = (BTreeSet::new(), 0);
    loop {
        let changes = stream.jobs().await;
        if changes.reset {
            resets += 1;
            known.clear();
        }
        known.extend(changes.changed.into_iter().map(|job| job.id));
        for id in &changes.gone {
            known.remove(id);
        }
        let newest: BTreeSet<_> = known.iter().rev().take(wanted.len()).cloned().collect();
        if newest == wanted {
            return resets;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_begins_with_the_newest_jobs_and_tells_what_becomes_of_them() {
    let scene = Scene::start().await;
    let mut submitted = Vec::new();
    for _ in 0..3 {
        submitted.push(scene.submit("p").await.to_string());
    }
    submitted.sort();
    let mut stream = scene.watch(jobs(JobFilter::default(), 2));
    let first = stream.jobs().await;
    assert!(first.reset);
    assert_eq!(ids(&first), [&*submitted[2], &*submitted[1]]);
    let job = scene.submit("p").await;
    let next = stream.jobs().await;
    assert_eq!((next.reset, ids(&next)), (false, vec![&*job.to_string()]));
    assert_eq!(next.changed[0].state(), v1::JobState::Queued);
    scene.cancel(job).await;
    let next = stream.jobs().await;
    assert_eq!((next.reset, ids(&next)), (false, vec![&*job.to_string()]));
    assert_eq!(next.changed[0].state(), v1::JobState::Cancelled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_is_not_chosen_any_more_is_gone_and_one_that_never_was_is_not_told() {
    let scene = Scene::start().await;
    let states = [JobState::Queued, JobState::Finished(Final::Failed)].into();
    let projects = ["a".to_owned()].into();
    let filter = JobFilter { states, projects, ..JobFilter::default() };
    let mut stream = scene.watch(jobs(filter, 10));
    assert_eq!(stream.jobs().await, v1::JobChanges { reset: true, ..Default::default() });
    let other = scene.submit("b").await;
    scene.cancel(other).await;
    let job = scene.submit("a").await;
    let told = stream.jobs().await;
    assert_eq!((ids(&told), told.gone.len()), (vec![&*job.to_string()], 0));
    scene.cancel(job).await;
    let told = stream.jobs().await;
    assert_eq!((ids(&told), &told.gone), (vec![], &vec![job.to_string()]));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_slowly_is_told_anew_and_nothing_piles_up() {
    let scene = Scene::start().await;
    let mut stream = scene.watch(jobs(JobFilter::default(), 3));
    assert!(stream.jobs().await.reset);
    let mut submitted = Vec::new();
    for _ in 0..100 {
        submitted.push(scene.submit("p").await);
    }
    submitted.sort();
    // Two answers are made at most before one is taken, of three jobs at most.
    assert!(until_known(&mut stream, &submitted[97..]).await > 0);
    // The same when the journal has moved on without it.
    scene.fleet.journal.installed(&State::default());
    let again = stream.jobs().await;
    assert!(again.reset);
    assert_eq!(ids(&again)[0], submitted[99].to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn events_are_listed_by_pages_and_followed() {
    let scene = Scene::start().await;
    let runner = scene.register("one").await;
    let job = scene.submit("p").await;
    let lease = scene.grant(job, &runner).await;
    let subject = Some(Subject::Job(job));
    let of_job = EventFilter { subject, ..EventFilter::default() };
    let mut stream = scene.watch(events(of_job.clone(), 10));
    let first = stream.events().await;
    assert!(first.reset);
    let kinds = |events: &[v1::Event]| -> Vec<String> {
        events.iter().map(|event| event.kind.clone()).collect()
    };
    assert_eq!(kinds(&first.events), ["job_submitted", "job_leased"]);
    assert_eq!(first.events[0].by, "ann");
    assert_eq!(first.events[1].message, "given to runner runner one");
    scene.register("two").await;
    scene.start_job(job, lease).await;
    let next = stream.events().await;
    assert_eq!((next.reset, kinds(&next.events)), (false, vec!["job_started".to_owned()]));

    let all = scene.fleet.events(&EventFilter::default(), EventId::MAX, 100).await.unwrap();
    assert!(all.last.is_none());
    let mut paged = Vec::new();
    let mut before = EventId::MAX;
    loop {
        let page = scene.fleet.events(&EventFilter::default(), before, 2).await.unwrap();
        paged.extend(page.events);
        match page.last {
            Some(last) => before = last,
            None => break,
        }
    }
    assert_eq!(paged, all.events);
    let about: Vec<_> = paged.iter().map(|event| (event.subject.clone(), &*event.kind)).collect();
    let (job, member) = (format!("job:{job}"), "member:1".to_owned());
    let expected = [
        (job.clone(), "job_started"),
        ("runner:two".to_owned(), "runner_online"),
        (job.clone(), "job_leased"),
        (job, "job_submitted"),
        ("runner:one".to_owned(), "runner_online"),
        (member, "member_joined"),
    ];
    assert_eq!(about, expected);
    assert!(paged.iter().map(|event| &event.id).is_sorted_by(|later, earlier| later > earlier));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_events_than_are_wanted_are_the_newest_alone() {
    let scene = Scene::start().await;
    let mut stream = scene.watch(events(EventFilter::default(), 2));
    assert_eq!(stream.events().await.events.len(), 1, "the cluster was founded");
    let mut last = String::new();
    for _ in 0..50 {
        last = format!("job:{}", scene.submit("p").await);
    }
    let mut resets = 0;
    loop {
        let told = stream.events().await;
        assert!(told.events.len() <= 2);
        resets += usize::from(told.reset);
        if told.events.last().unwrap().subject == last {
            break;
        }
    }
    assert!(resets > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_busy_runner_leases_are_told_once_a_second_and_the_rest_at_once() {
    let scene = Scene::start().await;
    let runner = scene.register("one").await;
    let mut journal = scene.fleet.journal.read();
    let begin = Instant::now();
    let mut list = RunnerList::new(begin);
    let mut told = |after: u64| {
        let now = begin + Duration::from_millis(after);
        list.changes(&scene.fleet, &journal.news(), now)
    };
    let names = |changes: Option<v1::RunnerChanges>| -> Vec<String> {
        changes.unwrap_or_default().changed.into_iter().map(|runner| runner.id).collect()
    };
    let first = told(0);
    assert!(first.as_ref().unwrap().reset);
    assert_eq!(names(first), ["one"]);
    assert_eq!(told(100), None);
    let job = scene.submit("p").await;
    let lease = scene.grant(job, &runner).await;
    assert_eq!(names(told(200)), ["one"], "the first change");
    scene.start_job(job, lease).await;
    assert_eq!(told(300), None);
    scene.register("two").await;
    assert_eq!(names(told(400)), ["two"]);
    assert_eq!(names(told(1_300)), ["one"]);
    assert_eq!(told(20_000), None, "nobody had a heartbeat");
}
