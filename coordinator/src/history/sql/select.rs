//! Questions about what is there. Nothing here writes.

use baton_state::{Job, JobId};
use sqlx::{QueryBuilder, Sqlite, SqlitePool};

use super::list;
use crate::history::{
    error::{Error, Result},
    filter::JobFilter,
};

pub(in crate::history) async fn job(readers: &SqlitePool, id: JobId) -> Result<Option<Job>> {
    let record: Option<String> = sqlx::query_scalar("SELECT record FROM job_records WHERE job = ?")
        .bind(id.to_string())
        .fetch_optional(readers)
        .await?;
    record.as_deref().map(read_job).transpose()
}

pub(in crate::history) async fn contains(readers: &SqlitePool, id: JobId) -> Result<bool> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM job_records WHERE job = ?")
        .bind(id.to_string())
        .fetch_optional(readers)
        .await?;
    Ok(found.is_some())
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

pub(in crate::history) async fn source_in_use(readers: &SqlitePool, digest: &str) -> Result<bool> {
    let found: Option<i64> = sqlx::query_scalar("SELECT 1 FROM jobs WHERE source = ? LIMIT 1")
        .bind(digest)
        .fetch_optional(readers)
        .await?;
    Ok(found.is_some())
}
