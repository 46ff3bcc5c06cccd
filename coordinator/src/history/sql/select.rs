//! Questions about what is there. Nothing here writes.

use baton_state::{Job, JobId};
use sqlx::{AssertSqlSafe, QueryBuilder, Row as _, Sqlite, SqlitePool};

use super::{
    TREE, TREE_END, from_sql, list,
    rows::{RECORDS, REQUESTS, Read},
};
use crate::history::{
    error::{Error, Result},
    filter::JobFilter,
};

/// Finished jobs, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listed {
    /// Those that can be read.
    pub jobs: Vec<Job>,
    /// The ids of those among them whose record is damaged.
    pub unreadable: Vec<String>,
}

pub(in crate::history) async fn job(readers: &SqlitePool, id: JobId) -> Result<Option<Job>> {
    // Also one whose record is not found any more.
    let statement = format!(
        "SELECT {} FROM (SELECT id FROM jobs WHERE id = ?1 UNION SELECT job FROM job_records \
         WHERE job = ?1) AS known LEFT JOIN job_records r ON r.job = known.id",
        RECORDS.selected("r.")
    );
    let row =
        sqlx::query(AssertSqlSafe(statement)).bind(id.to_string()).fetch_optional(readers).await?;
    row.map(|row| read_job(&RECORDS.read(&row, 0)?, &id)).transpose()
}

pub(in crate::history) async fn contains(readers: &SqlitePool, id: JobId) -> Result<bool> {
    // Where one of the two is damaged, the other one says so.
    let found: Option<i64> = sqlx::query_scalar(
        "SELECT 1 FROM jobs WHERE id = ?1 UNION SELECT 1 FROM job_records WHERE job = ?1",
    )
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
) -> Result<Listed> {
    let mut query = QueryBuilder::<Sqlite>::new("");
    if !list::push_page(&mut query, filter, before, limit) {
        return Ok(Listed::default());
    }
    let mut listed = Listed::default();
    for row in query.build().persistent(false).fetch_all(readers).await? {
        let id: Option<Vec<u8>> = row.try_get(0)?;
        let id = String::from_utf8_lossy(&id.unwrap_or_default()).into_owned();
        match read_job(&RECORDS.read(&row, 1)?, &id) {
            Ok(job) => listed.jobs.push(job),
            Err(Error::DamagedRow { .. }) => listed.unreadable.push(id),
            Err(error) => return Err(error),
        }
    }
    Ok(listed)
}

/// The job of a record, if that is what was written.
pub(super) fn read_job(record: &Read, id: &(impl ToString + ?Sized)) -> Result<Job> {
    if !record.is_whole {
        return Err(Error::DamagedRow { about: format!("job {}", id.to_string()) });
    }
    serde_json::from_slice(record.bytes(1)).map_err(|cause| Error::unreadable(id, &cause))
}

pub(in crate::history) async fn request(
    readers: &SqlitePool,
    key: &str,
) -> Result<Option<([u8; 32], JobId)>> {
    let statement =
        format!("SELECT {} FROM requests WHERE idempotency_key = ?", REQUESTS.selected(""));
    let row = sqlx::query(AssertSqlSafe(statement)).bind(key).fetch_optional(readers).await?;
    let Some(row) = row else { return Ok(None) };
    let request = REQUESTS.read(&row, 0)?;
    if !request.is_whole {
        return Err(Error::DamagedRow { about: REQUESTS.about(&request.values) });
    }
    let digest = request.bytes(1).try_into().map_err(|_| Error::unreadable(key, "no digest"))?;
    Ok(Some((digest, read_id(&request.text(2))?)))
}

pub(super) fn read_id(id: &str) -> Result<JobId> {
    id.parse().map_err(|cause| Error::unreadable(id, &cause))
}

pub(in crate::history) async fn source_in_use(readers: &SqlitePool, digest: &str) -> Result<bool> {
    let statement = "SELECT 1 FROM jobs WHERE source IN (?, ?) \
                     UNION ALL SELECT 1 FROM job_artifacts WHERE manifest = ? LIMIT 1";
    let found: Option<i64> = sqlx::query_scalar(statement)
        .bind(digest)
        .bind(format!("{TREE}{digest}"))
        .bind(digest)
        .fetch_optional(readers)
        .await?;
    Ok(found.is_some())
}

/// The manifests of all trees that jobs were submitted with, or left.
pub(in crate::history) async fn trees(readers: &SqlitePool) -> Result<Vec<String>> {
    let sources: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT source FROM jobs WHERE source >= ? AND source < ?")
            .bind(TREE)
            .bind(TREE_END)
            .fetch_all(readers)
            .await?;
    let mut trees: Vec<String> = sqlx::query_scalar("SELECT DISTINCT manifest FROM job_artifacts")
        .fetch_all(readers)
        .await?;
    trees.extend(sources.iter().filter_map(|it| it.strip_prefix(TREE)).map(str::to_owned));
    Ok(trees)
}

/// How many finished jobs have used up their attempts, counted up to `most`.
pub(in crate::history) async fn dead_letters(readers: &SqlitePool, most: u32) -> Result<u64> {
    let statement = "SELECT COUNT(*) FROM (SELECT 1 FROM jobs WHERE dead_letter = 1 LIMIT ?)";
    let count: i64 = sqlx::query_scalar(statement).bind(most).fetch_one(readers).await?;
    Ok(from_sql(count))
}
