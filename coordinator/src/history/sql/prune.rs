//! Retention: the oldest finished jobs go, with everything about them, a few at
//! a time so that new events don't have to wait long.

use std::collections::BTreeMap;

use baton_state::{Index, Job, JobId, Lease, Timestamp};
use sqlx::{Connection as _, QueryBuilder, Sqlite, SqliteConnection};

use super::{
    insert::{add_totals, runner_words},
    select::read_job,
    to_sql,
};
use crate::history::error::Result;

/// Free pages given back to the file system after a prune.
const VACUUM: &str = "PRAGMA incremental_vacuum(1000)";

/// What to keep, and how much to remove in one go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retention {
    /// Milliseconds since the finish after which a job goes; none for no limit.
    pub max_age: Option<u64>,
    /// So many of the oldest jobs go, however young they are.
    pub oldest: u32,
    /// At most this many jobs, and this many events about no job, go in one go.
    pub batch: u32,
}

/// A job that is gone from the history.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrunedJob {
    /// Which.
    pub id: JobId,
    /// Its leases, each of which may have a log file.
    pub leases: Vec<Lease>,
    /// The digest of its archive, which other jobs may use too.
    pub source: Option<String>,
}

/// A job about to go.
struct Candidate {
    id: String,
    state: String,
    log_bytes: i64,
    job: Job,
}

pub(in crate::history) async fn prune(
    connection: &mut SqliteConnection,
    now: Timestamp,
    retention: Retention,
) -> Result<Vec<PrunedJob>> {
    let cutoff = retention.max_age.map(|age| to_sql(now.0.saturating_sub(age)));
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let candidates = candidates(&mut transaction, cutoff, retention).await?;
    for candidate in &candidates {
        sqlx::query("DELETE FROM events WHERE job = ?")
            .bind(&candidate.id)
            .execute(&mut *transaction)
            .await?;
    }
    remove_all(&mut transaction, &candidates).await?;
    let events = match cutoff {
        Some(cutoff) => remove_events(&mut transaction, cutoff, retention.batch).await?,
        None => 0,
    };
    transaction.commit().await?;
    if (events > 0 || !candidates.is_empty())
        && let Err(error) = sqlx::query(VACUUM).execute(connection).await
    {
        // The rows are gone; the pages will be used again or given back later.
        tracing::warn!(%error, "cannot make the history's file smaller");
    }
    Ok(candidates.iter().map(|candidate| pruned(&candidate.job)).collect())
}

/// The oldest jobs, up to the first that need not go.
async fn candidates(
    connection: &mut SqliteConnection,
    cutoff: Option<i64>,
    retention: Retention,
) -> Result<Vec<Candidate>> {
    let rows: Vec<(String, i64, String, i64)> = sqlx::query_as(
        "SELECT id, finished_at, state, log_bytes FROM jobs ORDER BY finished_at, id LIMIT ?",
    )
    .bind(i64::from(retention.batch))
    .fetch_all(&mut *connection)
    .await?;
    let mut candidates = Vec::new();
    for (id, finished_at, state, log_bytes) in rows {
        let is_wanted = candidates.len() >= retention.oldest as usize;
        if cutoff.is_none_or(|cutoff| finished_at >= cutoff) && is_wanted {
            break;
        }
        candidates.push(Candidate::read(connection, id, state, log_bytes).await?);
    }
    Ok(candidates)
}

/// Removes every job that ended after the entry `through`, and every later event: what
/// happened to such a job until then stays.
pub(super) async fn remove_after(connection: &mut SqliteConnection, through: Index) -> Result<()> {
    let rows: Vec<(String, String, i64)> = sqlx::query_as(
        "SELECT id, state, log_bytes FROM jobs WHERE id IN \
         (SELECT job FROM events WHERE entry > ? AND kind = 'job_finished')",
    )
    .bind(to_sql(through))
    .fetch_all(&mut *connection)
    .await?;
    for (id, state, log_bytes) in rows {
        let candidate = Candidate::read(connection, id, state, log_bytes).await?;
        remove_all(connection, &[candidate]).await?;
    }
    sqlx::query("DELETE FROM events WHERE entry > ?")
        .bind(to_sql(through))
        .execute(connection)
        .await?;
    Ok(())
}

impl Candidate {
    async fn read(
        connection: &mut SqliteConnection,
        id: String,
        state: String,
        log_bytes: i64,
    ) -> Result<Self> {
        let record: String = sqlx::query_scalar("SELECT record FROM job_records WHERE job = ?")
            .bind(&id)
            .fetch_one(&mut *connection)
            .await?;
        Ok(Self { id, state, log_bytes, job: read_job(&record)? })
    }
}

async fn remove_all(connection: &mut SqliteConnection, candidates: &[Candidate]) -> Result<()> {
    let mut removed: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for candidate in candidates {
        remove(connection, candidate).await?;
        let (jobs, log_bytes) = removed.entry(candidate.state.clone()).or_default();
        *jobs -= 1;
        *log_bytes = log_bytes.saturating_sub(candidate.log_bytes);
    }
    add_totals(connection, removed).await
}

async fn remove(connection: &mut SqliteConnection, candidate: &Candidate) -> Result<()> {
    for statement in [
        "DELETE FROM requests WHERE job = ?",
        "DELETE FROM job_records WHERE job = ?",
        "DELETE FROM jobs WHERE id = ?",
    ] {
        sqlx::query(statement).bind(&candidate.id).execute(&mut *connection).await?;
    }
    let runners: Vec<String> = runner_words(&candidate.job).collect();
    for runner in runners {
        sqlx::query("DELETE FROM job_runners WHERE runner = ? AND job = ?")
            .bind(runner)
            .bind(&candidate.id)
            .execute(&mut *connection)
            .await?;
    }
    for label in &candidate.job.spec.requirements.labels {
        sqlx::query("DELETE FROM job_labels WHERE label = ? AND job = ?")
            .bind(label)
            .bind(&candidate.id)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

/// Removes old events about no job: the others go with theirs.
async fn remove_events(connection: &mut SqliteConnection, cutoff: i64, limit: u32) -> Result<u64> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "DELETE FROM events WHERE (entry, ordinal) IN \
         (SELECT entry, ordinal FROM events WHERE job IS NULL AND at < ",
    );
    query.push_bind(cutoff).push(" ORDER BY at LIMIT ").push_bind(i64::from(limit)).push(")");
    Ok(query.build().execute(connection).await?.rows_affected())
}

fn pruned(job: &Job) -> PrunedJob {
    PrunedJob {
        id: job.id,
        leases: job.attempts.iter().map(|attempt| attempt.lease).collect(),
        source: job.spec.archive().map(|archive| archive.digest.clone()),
    }
}
