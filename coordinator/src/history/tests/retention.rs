//! What is pruned, and that nothing of it stays.

use baton_state::{EventKind, Final, Lease, Timestamp};
use proptest::prelude::*;

use super::fixtures::{Finished, all, batch, events, newest_first, plain, reached, send, totals};
use crate::history::{History, PrunedJob, Retention};

async fn with(folder: &tempfile::TempDir, jobs: &[Finished]) -> History {
    let history = History::open(folder.path().join("history.db")).await.unwrap();
    send(&history, batch(jobs)).await;
    reached(&history, jobs.last().unwrap().number).await;
    history
}

async fn prune_all(history: &History, now: u64, retention: Retention) -> Vec<PrunedJob> {
    let mut all = Vec::new();
    loop {
        let pruned = history.prune(Timestamp(now), retention).await.unwrap();
        assert!(pruned.len() <= retention.batch as usize);
        if pruned.is_empty() {
            return all;
        }
        all.extend(pruned);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn old_jobs_go_with_everything_about_them() {
    let folder = tempfile::tempdir().unwrap();
    let mut jobs = plain(1..=50);
    for job in &mut jobs {
        job.keys = vec![format!("key {}", job.number)];
        job.source = Some(format!("source {}", job.number));
        job.labels = ["gpu".to_owned()].into();
        job.runners.push(("r-2".to_owned(), "second".to_owned()));
    }
    let history = with(&folder, &jobs).await;
    // Job n finished at 1,000 + n; those from before 1,031 go.
    let retention = Retention { max_age: Some(100), oldest: 0, batch: 8 };
    let pruned = prune_all(&history, 1_131, retention).await;
    let expected: Vec<_> = jobs[..30]
        .iter()
        .map(|job| PrunedJob {
            id: job.id(),
            leases: vec![Lease(job.number * 100 + 1), Lease(job.number * 100 + 2)],
            source: job.job().spec.source.clone(),
            artifacts: vec![format!("tree {}", job.number)],
        })
        .collect();
    assert_eq!(pruned, expected);
    assert_eq!(all(&history).await, newest_first(&jobs[30..]));
    assert_eq!(history.job(jobs[0].id()).await.unwrap(), None);
    assert_eq!(history.request("key 30").await.unwrap(), None);
    assert!(history.request("key 31").await.unwrap().is_some());
    assert!(!history.source_in_use("source 30").await.unwrap());
    assert!(history.source_in_use("source 31").await.unwrap());
    assert!(!history.source_in_use("tree 30").await.unwrap());
    assert!(history.source_in_use("tree 31").await.unwrap());
    assert_eq!(history.trees().await.unwrap().len(), 20);
    let kept: Vec<_> = jobs[30..].iter().flat_map(Finished::events).collect();
    let events = events(&history).await;
    let about_jobs = |kind: &EventKind| kind.job().is_some();
    assert!(
        events
            .iter()
            .filter(|event| about_jobs(&event.kind))
            .eq(kept.iter().filter(|event| about_jobs(&event.kind)))
    );
    assert_eq!(totals(&history).await, (20, 2_000));
    for table in ["job_runners", "job_labels", "job_artifacts", "job_records", "requests"] {
        let mut query = sqlx::QueryBuilder::<sqlx::Sqlite>::new("SELECT COUNT(*) FROM ");
        let rows: i64 = query
            .push(table)
            .build_query_scalar()
            .fetch_one(&history.shared.readers)
            .await
            .unwrap();
        let each = if table == "job_runners" { 4 } else { 1 };
        assert_eq!(rows, 20 * each, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_about_no_job_go_by_age() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = plain(1..=20);
    let history = with(&folder, &jobs).await;
    let retention = Retention { max_age: Some(0), oldest: 0, batch: 100 };
    prune_all(&history, 1_011, retention).await;
    let kept: Vec<_> = jobs[10..].iter().flat_map(Finished::events).collect();
    assert_eq!(events(&history).await, kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_oldest_jobs_go_when_it_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let jobs = plain(1..=50);
    let history = with(&folder, &jobs).await;
    let retention = Retention { max_age: None, oldest: 38, batch: 100 };
    let pruned = history.prune(Timestamp(0), retention).await.unwrap();
    assert_eq!(pruned.len(), 38);
    assert_eq!(all(&history).await, newest_first(&jobs[38..]));
    assert_eq!(totals(&history).await, (12, 1_200));
}

#[tokio::test(flavor = "multi_thread")]
async fn without_limits_nothing_goes() {
    let folder = tempfile::tempdir().unwrap();
    let history = with(&folder, &plain(1..=20)).await;
    let retention = Retention { max_age: None, oldest: 0, batch: 9 };
    assert_eq!(prune_all(&history, u64::MAX, retention).await, []);
    assert_eq!(all(&history).await.len(), 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_makes_the_file_smaller() {
    let folder = tempfile::tempdir().unwrap();
    let history = with(&folder, &plain(1..=900)).await;
    let size = async || {
        history.make_durable().await.unwrap();
        std::fs::metadata(folder.path().join("history.db")).unwrap().len()
    };
    let before = size().await;
    let retention = Retention { max_age: None, oldest: 100, batch: 100 };
    prune_all(&history, 0, retention).await;
    let after = size().await;
    assert!(after * 2 < before, "{before} {after}");
}

#[test]
fn the_sums_are_those_of_the_jobs_after_any_prune() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let config = ProptestConfig { cases: 12, failure_persistence: None, ..Default::default() };
    proptest!(config, |(
        sizes in prop::collection::vec(0..1_000_u64, 1..40),
        max_age in 0..40_u64,
        oldest in 0..10_u32,
    )| {
        let mut jobs = plain(1..=sizes.len() as u64);
        for (job, size) in jobs.iter_mut().zip(&sizes) {
            job.log_bytes = *size;
            job.state = if size % 2 == 0 { Final::Succeeded } else { Final::Failed };
        }
        let folder = tempfile::tempdir().unwrap();
        let retention = Retention { max_age: None, oldest, batch: 5 };
        let aged = Retention { max_age: Some(max_age), oldest: 0, batch: 5 };
        runtime.block_on(async {
            let history = with(&folder, &jobs).await;
            let mut pruned = history.prune(Timestamp(1_041), retention).await.unwrap();
            assert_eq!(pruned.len(), jobs.len().min(oldest.min(5) as usize));
            pruned.extend(prune_all(&history, 1_041, aged).await);
            let (gone, kept) = jobs.split_at(pruned.len());
            assert_eq!(all(&history).await, newest_first(kept));
            let bytes = |jobs: &[Finished]| jobs.iter().map(|job| job.log_bytes).sum::<u64>();
            let expected = (kept.len().try_into().unwrap(), bytes(kept).try_into().unwrap());
            assert_eq!(totals(&history).await, expected);
            let is_old = |job: &Finished| 1_000 + job.number < 1_041 - max_age;
            assert!(!kept.iter().any(is_old));
            assert!(gone.iter().skip(oldest.min(5) as usize).all(is_old));
        });
    });
}
