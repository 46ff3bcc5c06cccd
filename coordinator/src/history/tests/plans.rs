//! No list reads or sorts more than its page: the planner's own word for it.

use baton_state::{Final, JobId, Timestamp};
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::fixtures::{batch, plain, reached, send};
use crate::history::{History, JobFilter, JobState, sql::list};

async fn plan(history: &History, filter: &JobFilter) -> Vec<String> {
    let mut query = QueryBuilder::<Sqlite>::new("EXPLAIN QUERY PLAN ");
    assert!(list::push_page(&mut query, filter, JobId::MAX, 50));
    let rows = query.build().fetch_all(&history.shared.readers).await.unwrap();
    rows.iter().map(|row| row.get::<String, _>("detail")).collect()
}

fn states(states: &[Final]) -> JobFilter {
    let states = states.iter().copied().map(JobState::Finished).collect();
    JobFilter { states, ..JobFilter::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn common_lists_walk_an_index_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let history = History::open(folder.path().join("history.db")).await.unwrap();
    send(&history, batch(&plain(1..=100))).await;
    reached(&history, 100).await;
    let projects = |projects: &[&str]| projects.iter().map(|&project| project.to_owned()).collect();
    let plain = JobFilter::default();
    let cases = [
        ("PRIMARY KEY (id<?)", plain.clone()),
        ("PRIMARY KEY (id>? AND id<?)", {
            JobFilter { submitted_after: Some(Timestamp(5)), ..plain.clone() }
        }),
        ("jobs_by_project", JobFilter { projects: projects(&["a"]), ..plain.clone() }),
        ("jobs_by_project", JobFilter { projects: projects(&["a", "b"]), ..plain.clone() }),
        ("jobs_by_state", states(&[Final::Failed])),
        ("jobs_by_state", states(&[Final::Failed, Final::Lost])),
        ("jobs_by_project_and_state", {
            JobFilter { projects: projects(&["a", "b"]), ..states(&[Final::Error, Final::Lost]) }
        }),
        ("dead_letters", JobFilter { dead_letters: true, ..plain.clone() }),
        ("(runner=? AND job<?)", JobFilter { runner: Some("r".to_owned()), ..plain.clone() }),
        ("(label=? AND job<?)", JobFilter { labels: projects(&["x", "y"]), ..plain.clone() }),
    ];
    for (expected, filter) in cases {
        let plan = plan(&history, &filter).await;
        assert!(plan.iter().any(|step| step.contains(expected)), "{expected}: {plan:#?}");
        for table in ["j", "r", "k", "l", "jobs"] {
            let scan = format!("SCAN {table}");
            let scans = |step: &&String| **step == scan || step.starts_with(&format!("{scan} "));
            assert_eq!(plan.iter().find(scans), None, "{filter:?}: {plan:#?}");
        }
        // The only sort is that of the finished page.
        let sorts = plan.iter().filter(|step| step.contains("TEMP B-TREE")).count();
        assert!(sorts <= 1, "{filter:?}: {plan:#?}");
    }
}
