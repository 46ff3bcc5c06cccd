//! Questions about what is there. Nothing here writes.

use std::collections::BTreeMap;

use baton_state::{Event, EventKind, Final, Index, Job, JobId, Timestamp};
use sqlx::{QueryBuilder, Sqlite, SqlitePool};

use super::{STATES, from_sql, list, to_sql};
use crate::history::{
    error::{Error, Result},
    filter::JobFilter,
};

/// How much the history holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Finished jobs, by how they ended; no entry where there are none.
    pub jobs: BTreeMap<Final, u64>,
    /// Bytes of their stored output.
    pub log_bytes: u64,
}

pub(in crate::history) async fn job(readers: &SqlitePool, id: JobId) -> Result<Option<Job>> {
    let record: Option<String> = sqlx::query_scalar("SELECT record FROM job_records WHERE job = ?")
        .bind(id.to_string())
        .fetch_optional(readers)
        .await?;
    record.as_deref().map(read_job).transpose()
}

pub(in crate::history) async fn list(
    readers: &SqlitePool,
    filter: &JobFilter,
    before: JobId,
    limit: u32,
) -> Result<Vec<Job>> {
    let mut query = QueryBuilder::<Sqlite>::new("");
    if !list::push_page(&mut query, filter, before, limit) {
        return Ok(Vec::new());
    }
    let records: Vec<String> =
        query.build_query_scalar().persistent(false).fetch_all(readers).await?;
    records.iter().map(|record| read_job(record)).collect()
}

pub(super) fn read_job(record: &str) -> Result<Job> {
    serde_json::from_str(record).map_err(|cause| Error::unreadable("a job", &cause))
}

pub(in crate::history) async fn request(
    readers: &SqlitePool,
    key: &str,
) -> Result<Option<([u8; 32], JobId)>> {
    let row: Option<(Vec<u8>, String)> =
        sqlx::query_as("SELECT digest, job FROM requests WHERE idempotency_key = ?")
            .bind(key)
            .fetch_optional(readers)
            .await?;
    let Some((digest, job)) = row else { return Ok(None) };
    let digest = digest.try_into().map_err(|_| Error::unreadable(key, "no digest"))?;
    Ok(Some((digest, read_id(&job)?)))
}

pub(super) fn read_id(id: &str) -> Result<JobId> {
    id.parse().map_err(|cause| Error::unreadable(id, &cause))
}

/// A row of events, with the job's record where the event has no payload.
type EventRow = (i64, i64, i64, Option<String>, Option<String>);

pub(in crate::history) async fn events(
    readers: &SqlitePool,
    from: (Index, u32),
    limit: u32,
) -> Result<Vec<Event>> {
    let rows: Vec<EventRow> = sqlx::query_as(
        "SELECT e.entry, e.ordinal, e.at, e.payload, r.record FROM events e \
         LEFT JOIN job_records r ON e.payload IS NULL AND r.job = e.job \
         WHERE (e.entry, e.ordinal) >= (?, ?) ORDER BY e.entry, e.ordinal LIMIT ?",
    )
    .bind(to_sql(from.0))
    .bind(i64::from(from.1))
    .bind(i64::from(limit))
    .fetch_all(readers)
    .await?;
    rows.into_iter().map(read_event).collect()
}

fn read_event((entry, ordinal, at, payload, record): EventRow) -> Result<Event> {
    let kind = match (payload, record) {
        (Some(payload), _) => serde_json::from_str(&payload)
            .map_err(|cause| Error::unreadable(&format!("entry {entry}"), &cause))?,
        (None, Some(record)) => EventKind::JobFinished { job: Box::new(read_job(&record)?) },
        (None, None) => {
            return Err(Error::unreadable(&format!("entry {entry}"), "its job is missing"));
        }
    };
    let ordinal = u32::try_from(ordinal).unwrap_or(u32::MAX);
    Ok(Event { index: from_sql(entry), ordinal, at: Timestamp(from_sql(at)), kind })
}

pub(in crate::history) async fn source_in_use(readers: &SqlitePool, digest: &str) -> Result<bool> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM jobs WHERE source = ? LIMIT 1")
        .bind(digest)
        .fetch_optional(readers)
        .await?;
    Ok(found.is_some())
}

pub(in crate::history) async fn counts(readers: &SqlitePool) -> Result<Counts> {
    let rows: Vec<(String, i64, i64)> =
        sqlx::query_as("SELECT state, jobs, log_bytes FROM totals WHERE jobs > 0")
            .fetch_all(readers)
            .await?;
    let mut counts = Counts::default();
    for (word, jobs, log_bytes) in rows {
        let Some((state, _)) = STATES.iter().find(|(_, known)| *known == word) else {
            return Err(Error::unreadable("totals", &format!("unknown state {word}")));
        };
        counts.jobs.insert(*state, from_sql(jobs));
        counts.log_bytes += from_sql(log_bytes);
    }
    Ok(counts)
}
