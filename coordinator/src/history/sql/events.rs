//! The statement that lists events: always along an index that is in the order of the list, so
//! that a page costs its own length and not the table's.

use std::sync::Arc;

use baton_state::{Event, EventKind, Job, Timestamp};
use sqlx::{QueryBuilder, Sqlite, SqlitePool, sqlite::SqliteRow};

use super::{
    from_sql,
    rows::{EVENTS, RECORDS, Value},
    select::read_job,
    to_sql,
};
use crate::history::{
    error::Result,
    event_filter::{EventFilter, EventId, Subject},
};

/// How far, in milliseconds, an event's time may be from its place in the log: leaders have
/// clocks of their own.
const CLOCKS_WITHIN: u64 = 5 * 60 * 1000;

/// Columns of the events.
const AT: usize = 2;
const KIND: usize = 3;
const JOB: usize = 4;
const RUNNER: usize = 5;
const PAYLOAD: usize = 6;

/// An event as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recorded {
    /// What happened, and the record of the job that it is about, if that has ended.
    Known {
        /// What.
        event: Event,
        /// The job.
        job: Option<Arc<Job>>,
    },
    /// What another version of Baton says has happened, or what cannot be understood without
    /// the record of a job that is damaged.
    Unknown {
        /// Which.
        id: EventId,
        /// When.
        at: Timestamp,
        /// Its stable name.
        kind: String,
        /// The job and the runner that it names.
        job: Option<String>,
        /// As above.
        runner: Option<String>,
    },
    /// The row is not what was written.
    Damaged {
        /// Which.
        id: EventId,
    },
}

/// Entries of the log among which all events of a time are.
#[derive(Clone, Copy, Debug)]
pub(in crate::history) struct Entries {
    first: i64,
    last: i64,
}

impl Entries {
    pub(in crate::history) const ALL: Self = Self { first: 0, last: i64::MAX };
}

pub(in crate::history) async fn list(
    readers: &SqlitePool,
    filter: &EventFilter,
    before: EventId,
    limit: u32,
) -> Result<Vec<Recorded>> {
    let entries = entries(readers, filter).await?;
    let mut query = QueryBuilder::<Sqlite>::new("");
    push_page(&mut query, filter, entries, before, limit);
    let rows = query.build().persistent(false).fetch_all(readers).await?;
    rows.iter().map(read).collect()
}

/// The entries of the times that a filter asks for.
async fn entries(readers: &SqlitePool, filter: &EventFilter) -> Result<Entries> {
    let mut entries = Entries::ALL;
    if let Some(Timestamp(after)) = filter.after {
        entries.first = entry_at(readers, after.saturating_sub(CLOCKS_WITHIN)).await?;
    }
    if let Some(Timestamp(before)) = filter.before {
        entries.last = entry_at(readers, before.saturating_add(CLOCKS_WITHIN)).await?;
    }
    Ok(entries)
}

/// About the first entry of a time, by bisection.
async fn entry_at(readers: &SqlitePool, time: u64) -> Result<i64> {
    let ends: (Option<i64>, Option<i64>) =
        sqlx::query_as("SELECT (SELECT MIN(entry) FROM events), (SELECT MAX(entry) FROM events)")
            .fetch_one(readers)
            .await?;
    let (Some(mut first), Some(last)) = ends else { return Ok(0) };
    let mut last = last.saturating_add(1);
    while first < last {
        let middle = first + (last - first) / 2;
        let next: Option<(i64, i64)> = sqlx::query_as(
            "SELECT entry, at FROM events WHERE entry >= ? ORDER BY entry, ordinal LIMIT 1",
        )
        .bind(middle)
        .fetch_optional(readers)
        .await?;
        match next {
            Some((entry, at)) if from_sql(at) < time => first = entry.saturating_add(1),
            Some(_) | None => last = middle,
        }
    }
    Ok(first)
}

/// Appends the statement that gives a page.
pub(in crate::history) fn push_page(
    query: &mut QueryBuilder<Sqlite>,
    filter: &EventFilter,
    entries: Entries,
    before: EventId,
    limit: u32,
) {
    query.push(format!("SELECT {}, {} FROM (", EVENTS.selected("e."), RECORDS.selected("r.")));
    // One kind leads the search, unless what it is about does.
    let kinds: Vec<Option<&str>> = if filter.subject.is_some() || filter.kinds.is_empty() {
        vec![None]
    } else {
        filter.kinds.iter().map(|kind| Some(kind.as_str())).collect()
    };
    for (position, kind) in kinds.into_iter().enumerate() {
        if position > 0 {
            query.push(" UNION ALL ");
        }
        query.push("SELECT entry, ordinal FROM (SELECT entry, ordinal FROM events WHERE ");
        match kind {
            Some(kind) => {
                query.push("kind = ").push_bind(kind.to_owned());
            }
            None => push_subject(query, filter),
        }
        query.push(" AND (entry, ordinal) < (").push_bind(to_sql(before.entry)).push(", ");
        query.push_bind(i64::from(before.ordinal)).push(") AND entry >= ");
        query.push_bind(entries.first).push(" AND entry <= ").push_bind(entries.last);
        if let Some(Timestamp(after)) = filter.after {
            query.push(" AND +at >= ").push_bind(to_sql(after));
        }
        if let Some(Timestamp(before)) = filter.before {
            query.push(" AND +at < ").push_bind(to_sql(before));
        }
        query.push(" ORDER BY entry DESC, ordinal DESC LIMIT ").push_bind(i64::from(limit));
        query.push(format!(") AS range_{position}"));
    }
    query.push(
        ") AS page CROSS JOIN events e ON e.entry = page.entry AND e.ordinal = page.ordinal ",
    );
    query.push("LEFT JOIN job_records r ON r.job = e.job ");
    query.push("ORDER BY page.entry DESC, page.ordinal DESC LIMIT ").push_bind(i64::from(limit));
}

fn push_subject(query: &mut QueryBuilder<Sqlite>, filter: &EventFilter) {
    match &filter.subject {
        None => {
            query.push("1 = 1");
        }
        Some(Subject::Job(job)) => {
            query.push("job = ").push_bind(job.to_string());
        }
        Some(Subject::Runner(runner)) => {
            query.push("job IS NULL AND runner = ").push_bind(runner.0.clone());
        }
        Some(Subject::Member(node)) => {
            push_field(query, "node");
            query.push_bind(to_sql(node.0));
        }
        Some(Subject::Queue(project)) => {
            push_field(query, "queue.project");
            query.push_bind(project.clone());
        }
    }
    if !filter.kinds.is_empty() {
        query.push(" AND +kind IN (");
        let mut separated = query.separated(", ");
        for kind in &filter.kinds {
            separated.push_bind(kind.clone());
        }
        query.push(")");
    }
}

/// Begins a comparison with a field of those about neither a job nor a runner; what is damaged
/// must not fail the statement.
fn push_field(query: &mut QueryBuilder<Sqlite>, field: &str) {
    query.push(format!(
        "job IS NULL AND runner IS NULL AND \
         CASE WHEN json_valid(payload) THEN json_extract(payload, '$.{field}') END = "
    ));
}

fn read(row: &SqliteRow) -> Result<Recorded> {
    let found = EVENTS.read(row, 0)?;
    let ordinal = u32::try_from(found.number(1)).unwrap_or_default();
    let id = EventId { entry: from_sql(found.number(0)), ordinal };
    if !found.is_whole {
        return Ok(Recorded::Damaged { id });
    }
    let record = RECORDS.read(row, EVENTS.columns.len() + 1)?;
    let job = (record.values[0] != Value::Null).then(|| read_job(&record, &found.text(JOB)));
    let job = job.and_then(std::result::Result::ok).map(Arc::new);
    let kind: Option<EventKind> = match &found.values[PAYLOAD] {
        Value::Bytes(payload) => serde_json::from_slice(payload).ok(),
        // Its job's record says it all.
        _ => job.clone().map(|job| EventKind::JobFinished { job }),
    };
    let at = Timestamp(from_sql(found.number(AT)));
    Ok(match kind {
        Some(kind) => Recorded::Known { event: Event { index: id.entry, ordinal, at, kind }, job },
        None => {
            let text =
                |column| Some(found.text(column).into_owned()).filter(|text| !text.is_empty());
            let kind = found.text(KIND).into_owned();
            Recorded::Unknown { id, at, kind, job: text(JOB), runner: text(RUNNER) }
        }
    })
}
