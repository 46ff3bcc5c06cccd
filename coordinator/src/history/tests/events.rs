//! Lists of events: the same as in memory, along an index, and whatever has become of the rows.

use baton_state::{
    Event, EventKind, JobId, Lease, NodeId, QueueName, Requirements, RunnerId, Timestamp,
};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::fixtures::{Finished, batch, plain, reached, send};
use crate::history::{
    Batch, EventFilter, EventId, History, Recorded, Subject,
    sql::events::{Entries, push_page},
};

/// An hour between each two entries.
fn at(entry: u64) -> Timestamp {
    Timestamp(entry * 3_600_000)
}

fn mixed() -> Vec<Event> {
    let job = Finished::new(2);
    let runner = |id: &str| RunnerId(id.to_owned());
    let name = || "name".to_owned();
    let online = |id| EventKind::RunnerOnline {
        runner: runner(id),
        name: name(),
        version: name(),
        leaving: false,
    };
    let joined =
        |node| EventKind::MemberJoined { node: NodeId(node), address: name(), version: name() };
    let lifted = || EventKind::QuarantineLifted { runner: runner("b"), name: name(), by: name() };
    let queue = QueueName::of("p", &Requirements::default());
    let kinds = vec![
        joined(1),
        online("a"),
        online("b"),
        EventKind::JobSubmitted { job: job.id(), by: "ann".to_owned() },
        EventKind::JobLeased { job: job.id(), lease: Lease(5), runner: runner("a") },
        joined(2),
        EventKind::JobStarted { job: job.id(), lease: Lease(5) },
        EventKind::RunnerUnreachable { runner: runner("a"), name: name() },
        EventKind::JobFinished { job: job.job().into() },
        EventKind::MemberRemoved { node: NodeId(2), address: name(), version: name() },
        EventKind::QueuePaused { queue, by: name() },
    ];
    let numbered = (1..).zip(kinds);
    let both = numbered.flat_map(|(index, kind)| {
        let event = |ordinal, kind| Event { index, ordinal, at: at(index), kind };
        [event(0, kind), event(1, lifted())]
    });
    both.collect()
}

async fn filled(events: Vec<Event>) -> (tempfile::TempDir, History) {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path().join("history.db")).await.unwrap();
    let through = events.last().unwrap().index;
    send(&history, Batch { through, events }).await;
    reached(&history, through).await;
    (folder, history)
}

fn filters() -> Vec<EventFilter> {
    let kinds = |kinds: &[&str]| kinds.iter().map(|&kind| kind.to_owned()).collect();
    let subjects = [
        Some(Subject::Job(Finished::new(2).id())),
        Some(Subject::Job(JobId::MAX)),
        Some(Subject::Runner(RunnerId("a".to_owned()))),
        Some(Subject::Member(NodeId(2))),
        Some(Subject::Queue("p".to_owned())),
        None,
    ];
    let kinds =
        [kinds(&[]), kinds(&["runner_online"]), kinds(&["job_started", "member_joined", "none"])];
    let times = [
        (None, None),
        (Some(at(3)), None),
        (None, Some(at(6))),
        (Some(at(4)), Some(Timestamp(at(8).0 + 1))),
    ];
    let mut filters = Vec::new();
    for subject in subjects {
        for kinds in &kinds {
            for (after, before) in times {
                let (subject, kinds) = (subject.clone(), kinds.clone());
                filters.push(EventFilter { subject, kinds, after, before });
            }
        }
    }
    filters
}

fn known(recorded: Vec<Recorded>) -> Vec<Event> {
    let event = |recorded| match recorded {
        Recorded::Known { event, .. } => event,
        other => panic!("{other:?}"),
    };
    recorded.into_iter().map(event).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_has_the_same_events_in_sql_as_in_memory_page_by_page() {
    let events = mixed();
    let (_folder, history) = filled(events.clone()).await;
    for filter in filters() {
        let expected: Vec<_> =
            events.iter().rev().filter(|it| filter.matches(it)).cloned().collect();
        let mut found = Vec::new();
        let mut before = EventId::MAX;
        loop {
            let page = known(history.events(&filter, before, 3).await.unwrap());
            let is_last = page.len() < 3;
            before = page.last().map_or(before, EventId::of);
            found.extend(page);
            if is_last {
                break;
            }
        }
        assert_eq!(found, expected, "{filter:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_of_events_walk_an_index_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path().join("history.db")).await.unwrap();
    send(&history, batch(&plain(1..=100))).await;
    reached(&history, 100).await;
    for filter in filters() {
        let mut query = QueryBuilder::<Sqlite>::new("EXPLAIN QUERY PLAN ");
        push_page(&mut query, &filter, Entries::ALL, EventId::MAX, 50);
        let rows = query.build().fetch_all(&history.shared.readers).await.unwrap();
        let plan: Vec<_> = rows.iter().map(|row| row.get::<String, _>("detail")).collect();
        let index = match &filter.subject {
            Some(Subject::Job(_)) => "events_by_job (job=? AND ",
            Some(Subject::Runner(_)) => "events_by_runner (runner=? AND ",
            Some(Subject::Member(_) | Subject::Queue(_)) => "events_about_no_runner",
            None if filter.kinds.is_empty() => "SEARCH events USING PRIMARY KEY (",
            None => "events_by_kind (kind=? AND ",
        };
        assert!(plan.iter().any(|step| step.contains(index)), "{index}: {plan:#?}");
        // The only sort is that of the finished page.
        let sorts = plan.iter().filter(|step| step.contains("TEMP B-TREE")).count();
        assert!(sorts <= 1, "{filter:?}: {plan:#?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_rows_and_those_of_other_versions_do_not_keep_others_from_being_listed() {
    let (folder, history) = filled(mixed()).await;
    history.stop().await;
    let path = folder.path().join("history.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(&path);
    let mut connection = sqlx::ConnectOptions::connect(&options).await.unwrap();
    for statement in [
        "UPDATE events SET payload = '{' WHERE entry = 6 AND ordinal = 0",
        "UPDATE job_records SET record = 'x'",
    ] {
        sqlx::query(statement).execute(&mut connection).await.unwrap();
    }
    sqlx::Connection::close(connection).await.unwrap();
    let history = History::open(&path).await.unwrap();
    let all = history.events(&EventFilter::default(), EventId::MAX, 100).await.unwrap();
    assert_eq!(all.len(), mixed().len());
    let damaged = EventId { entry: 6, ordinal: 0 };
    assert!(all.contains(&Recorded::Damaged { id: damaged }));
    let unknown: Vec<_> = all
        .iter()
        .filter_map(|recorded| match recorded {
            Recorded::Unknown { kind, job, .. } => Some((kind.as_str(), job.clone().unwrap())),
            _ => None,
        })
        .collect();
    assert_eq!(unknown, [("job_finished", Finished::new(2).id().to_string())]);
    assert!(history.damage().unwrap().contains("an event of entry 6"));
    // Also where only what the row says tells whether it is asked for.
    let subject = Some(Subject::Member(NodeId(2)));
    let filter = EventFilter { subject, ..EventFilter::default() };
    assert_eq!(history.events(&filter, EventId::MAX, 100).await.unwrap().len(), 1);
}
