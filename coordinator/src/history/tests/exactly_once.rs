//! Every event is taken once, however often the log is replayed.

use baton_state::{Event, EventKind, JobId, Timestamp};

use super::fixtures::{
    Finished, all, batch, events, newest_first, plain, reached, request, send, totals,
};
use crate::history::{Batch, Error, History, Retention};

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_job_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path().join("history.db")).await.unwrap();
    let mut finished = Finished::new(5);
    finished.keys = vec!["someone/abc".to_owned(), "someone/d".to_owned()];
    finished.source = Some("d1".to_owned());
    send(&history, batch(&[finished.clone()])).await;
    reached(&history, 5).await;
    assert_eq!(history.job(finished.id()).await.unwrap(), Some(finished.job()));
    assert_eq!(history.job(JobId::MAX).await.unwrap(), None);
    assert_eq!(events(&history).await, finished.events());
    let expected = Some((request("someone/abc").digest, finished.id()));
    assert_eq!(history.request("someone/abc").await.unwrap(), expected);
    assert_eq!(history.request("someone/other").await.unwrap(), None);
    assert!(history.source_in_use("d1").await.unwrap());
    assert!(!history.source_in_use("d2").await.unwrap());
    history.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn overlapping_batches_and_restarts_store_each_event_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let jobs = plain(1..=60);
    // The log is replayed from further back each time.
    for (first, last) in [(0, 20), (10, 30), (0, 45), (45, 60)] {
        let history = History::open(&path).await.unwrap();
        for chunk in jobs[first..last].chunks(7) {
            send(&history, batch(chunk)).await;
            send(&history, batch(chunk)).await;
        }
        reached(&history, last as u64).await;
        history.stop().await;
    }
    let history = History::open(&path).await.unwrap();
    assert_eq!(*history.position().borrow(), 60);
    assert_eq!(all(&history).await, newest_first(&jobs));
    let expected: Vec<_> = jobs.iter().flat_map(Finished::events).collect();
    assert_eq!(events(&history).await, expected);
    assert_eq!(totals(&history).await, (60, 6_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_history_that_is_dropped_goes_on_where_its_file_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let jobs = plain(1..=40);
    let history = History::open(&path).await.unwrap();
    send(&history, batch(&jobs[..10])).await;
    reached(&history, 10).await;
    send(&history, batch(&jobs[..30])).await;
    drop(history);
    let history = History::open(&path).await.unwrap();
    assert!([10, 30].contains(&*history.position().borrow()));
    send(&history, batch(&jobs)).await;
    reached(&history, 40).await;
    assert_eq!(all(&history).await, newest_first(&jobs));
}

#[tokio::test(flavor = "multi_thread")]
async fn entries_without_events_move_the_position() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let history = History::open(&path).await.unwrap();
    for through in 1..=500 {
        send(&history, Batch { through, events: Vec::new() }).await;
    }
    reached(&history, 500).await;
    history.stop().await;
    let history = History::open(&path).await.unwrap();
    assert_eq!(*history.position().borrow(), 500);
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_stores_what_was_sent_and_refuses_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("history.db");
    let jobs = plain(1..=50);
    let history = History::open(&path).await.unwrap();
    for job in jobs.chunks(1) {
        send(&history, batch(job)).await;
    }
    history.stop().await;
    let late = batch(&plain(51..=51));
    let sender = history.sender();
    let refused = sender.send(late).await;
    assert!(matches!(refused, Err(Error::Stopped)), "{refused:?}");
    let history = History::open(&path).await.unwrap();
    assert_eq!(all(&history).await, newest_first(&jobs));
}

#[tokio::test(flavor = "multi_thread")]
async fn evictions_are_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path().join("history.db")).await.unwrap();
    let finished = Finished::new(1);
    let mut sent = batch(std::slice::from_ref(&finished));
    let mut evicted = sent.events[1].clone();
    evicted.index = 2;
    evicted.at = Timestamp(9);
    evicted.kind = EventKind::JobEvicted { job: finished.id() };
    sent.events.push(evicted);
    sent.through = 2;
    send(&history, sent).await;
    reached(&history, 2).await;
    assert_eq!(events(&history).await, finished.events());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_use_of_a_key_counts() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path().join("history.db")).await.unwrap();
    let mut jobs = plain(1..=2);
    for job in &mut jobs {
        job.keys = vec!["key".to_owned()];
    }
    send(&history, batch(&jobs)).await;
    reached(&history, 2).await;
    let (_, job) = history.request("key").await.unwrap().unwrap();
    assert_eq!(job, jobs[0].id());
    assert_eq!(all(&history).await.len(), 2);
}

fn key_taken(entry: u64, job: JobId, key: &str) -> Batch {
    let kind = EventKind::KeyTaken { job, request: request(key) };
    let event = Event { index: entry, ordinal: 0, at: Timestamp(9), kind };
    Batch { through: entry, events: vec![event] }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_taken_after_the_end_is_kept_as_long_as_its_job() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path().join("history.db")).await.unwrap();
    let job = Finished::new(1);
    let mut both = batch(std::slice::from_ref(&job));
    both.events.extend(key_taken(2, job.id(), "in the same batch").events);
    both.through = 2;
    send(&history, both).await;
    send(&history, key_taken(3, job.id(), "later")).await;
    send(&history, key_taken(3, job.id(), "later")).await;
    reached(&history, 3).await;
    for key in ["in the same batch", "later"] {
        let expected = Some((request(key).digest, job.id()));
        assert_eq!(history.request(key).await.unwrap(), expected);
    }

    let retention = Retention { max_age: None, oldest: 1, batch: 10 };
    assert_eq!(history.prune(Timestamp(0), retention).await.unwrap().len(), 1);
    assert_eq!(history.request("later").await.unwrap(), None);
    // This one was under way while the job was removed.
    send(&history, key_taken(4, job.id(), "too late")).await;
    reached(&history, 4).await;
    assert_eq!(history.request("too late").await.unwrap(), None);
}
