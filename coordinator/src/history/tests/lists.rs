//! Lists, filters and pages.

use std::collections::BTreeSet;

use baton_state::{Final, JobId, Phase, Timestamp};
use proptest::{
    collection::{btree_set, vec},
    option,
    prelude::*,
    sample::select,
    strategy::ValueTree as _,
    test_runner::TestRunner,
};

use super::fixtures::{Finished, batch, newest_first, plain, reached, send};
use crate::history::{History, JobFilter, JobState};

const FINALS: [Final; 6] =
    [Final::Succeeded, Final::Failed, Final::TimedOut, Final::Cancelled, Final::Error, Final::Lost];

const NAMES: [&str; 10] =
    ["Build", "BÜILD", "büild 100%", "a_b", "axb", r"back\slash", "ΟΔΟΣ", "nul\0nul", "", "ß"];

const TEXTS: [&str; 12] =
    ["", "BUI", "ü", "Ü", "%", "_", r"\", "δος", "ss", "\0", "l\0n", "no such"];

fn words(words: &'static [&'static str], most: usize) -> impl Strategy<Value = BTreeSet<String>> {
    btree_set(select(words).prop_map(str::to_owned), 0..=most)
}

fn runner() -> impl Strategy<Value = String> {
    select(&["r-1", "r-2", "one", "two"][..]).prop_map(str::to_owned)
}

fn finished() -> impl Strategy<Value = Finished> {
    (
        select(&["a", "b", "c"][..]),
        select(&NAMES[..]),
        select(&FINALS[..]),
        vec((runner(), runner()), 0..3),
        words(&["x86", "gpu", "big"], 3),
        any::<bool>(),
    )
        .prop_map(|(project, name, state, runners, labels, dead_letter)| Finished {
            project: project.to_owned(),
            name: name.to_owned(),
            state,
            runners,
            labels,
            dead_letter,
            ..Finished::new(0)
        })
}

fn filter() -> impl Strategy<Value = JobFilter> {
    let live = [JobState::Queued, JobState::Leased, JobState::Running];
    let states: Vec<_> = live.into_iter().chain(FINALS.map(JobState::Finished)).collect();
    let time = || option::of(prop_oneof![0..50_u64, Just(1 << 48), Just(u64::MAX)]);
    (
        words(&["a", "b", "c", "d"], 3),
        prop_oneof![
            2 => Just(BTreeSet::new()),
            3 => btree_set(select(states), 0..=9),
            1 => Just(FINALS.map(JobState::Finished).into()),
        ],
        option::of(runner()),
        prop_oneof![Just(BTreeSet::new()), words(&["x86", "gpu", "big"], 3)],
        select(&TEXTS[..]),
        (time(), time()),
        prop_oneof![3 => Just(false), 1 => Just(true)],
    )
        .prop_map(|(projects, states, runner, labels, text, (after, before), dead_letters)| {
            JobFilter {
                projects,
                states,
                runner,
                labels,
                text: text.to_owned(),
                submitted_after: after.map(Timestamp),
                submitted_before: before.map(Timestamp),
                dead_letters,
            }
        })
}

/// What the list must give: each job that matches, the newest first.
fn expected(jobs: &[Finished], filter: &JobFilter, before: JobId, limit: usize) -> Vec<JobId> {
    let jobs = jobs.iter().rev().map(Finished::job);
    let matcher = filter.matcher();
    let matching = jobs.filter(|job| job.id < before && matcher.matches(job));
    matching.map(|job| job.id).take(limit).collect()
}

#[test]
fn sql_and_memory_agree_on_every_filter() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut random = TestRunner::deterministic();
    let mut hits = 0;
    for _ in 0..4 {
        let folder = tempfile::tempdir().unwrap();
        let mut jobs = sample(&mut random, vec(finished(), 50));
        jobs.iter_mut().zip(1..).for_each(|(job, number)| job.number = number);
        let history = runtime.block_on(async {
            let history = History::open(folder.path().join("history.db")).await.unwrap();
            send(&history, batch(&jobs)).await;
            reached(&history, 50).await;
            history
        });
        for _ in 0..500 {
            let filter = sample(&mut random, filter());
            let limit = sample(&mut random, 1..60_u32);
            let before = sample(&mut random, option::of(0..50_usize));
            let before = before.map_or(JobId::MAX, |place| jobs[place].id());
            let listed = runtime.block_on(history.list(&filter, before, limit)).unwrap();
            let listed: Vec<_> = listed.jobs.iter().map(|job| job.id).collect();
            assert_eq!(listed, expected(&jobs, &filter, before, limit as usize), "{filter:?}");
            hits += usize::from(!listed.is_empty());
        }
    }
    assert!(hits > 200, "too few filters matched anything: {hits}");
}

fn sample<T: std::fmt::Debug>(random: &mut TestRunner, strategy: impl Strategy<Value = T>) -> T {
    strategy.new_tree(random).unwrap().current()
}

#[tokio::test(flavor = "multi_thread")]
async fn very_many_projects_and_states_are_listed_too() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path().join("history.db")).await.unwrap();
    let mut jobs = plain(1..=120);
    for job in &mut jobs {
        job.project = format!("p{}", job.number);
        job.state = FINALS[usize::try_from(job.number % 6).unwrap()];
    }
    send(&history, batch(&jobs)).await;
    reached(&history, 120).await;
    let filter = JobFilter {
        projects: (21..=400).map(|number| format!("p{number}")).collect(),
        states: FINALS[..3].iter().copied().map(JobState::Finished).collect(),
        ..JobFilter::default()
    };
    let listed = history.list(&filter, JobId::MAX, 1_000).await.unwrap();
    let listed: Vec<_> = listed.jobs.iter().map(|job| job.id).collect();
    assert_eq!(listed.len(), 49);
    assert_eq!(listed, expected(&jobs, &filter, JobId::MAX, 1_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_show_every_job_once_while_others_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path().join("history.db")).await.unwrap();
    let jobs = plain(1..=100);
    send(&history, batch(&jobs)).await;
    reached(&history, 100).await;
    let mut seen = Vec::new();
    let mut before = JobId::MAX;
    let mut arrived = 100;
    loop {
        let page = history.list(&JobFilter::default(), before, 7).await.unwrap();
        let Some(last) = page.jobs.last() else { break };
        before = last.id;
        seen.extend(page.jobs.iter().map(|job| job.id));
        arrived += 1;
        send(&history, batch(&plain(arrived..=arrived))).await;
        reached(&history, arrived).await;
    }
    assert_eq!(seen, newest_first(&jobs));
    assert!(arrived > 110);
}

#[test]
fn a_live_job_has_a_live_state() {
    let mut job = Finished::new(1).job();
    assert_eq!(JobState::of(&job), JobState::Finished(Final::Succeeded));
    job.phase = Phase::Queued { not_before: None };
    let queued = JobFilter { states: [JobState::Queued].into(), ..JobFilter::default() };
    assert!(queued.matcher().matches(&job));
    job.phase = Phase::Running;
    assert!(!queued.matcher().matches(&job));
}
