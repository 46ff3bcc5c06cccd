//! Retention: the oldest finished jobs go, with everything about them, a few at
//! a time so that new events don't have to wait long.

use std::collections::BTreeMap;

use baton_state::{Index, Job, JobId, Lease, Source, Timestamp};
use sqlx::{AssertSqlSafe, Connection as _, QueryBuilder, Sqlite, SqliteConnection};

use super::{
    insert::{add_totals, artifact_words, runner_words},
    rows::{JOBS, RECORDS, Read},
    select::{read_id, read_job},
    to_sql,
};
use crate::history::error::{Error, Result};

/// Free pages given back to the file system after a prune.
const VACUUM: &str = "PRAGMA incremental_vacuum(1000)";

/// Columns of the jobs.
const STATE: usize = 2;
const FINISHED_AT: usize = 4;
const LOG_BYTES: usize = 7;

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
    /// Its code, which other jobs may use too.
    pub source: Option<Source>,
    /// The manifests of what it left, which others may have left too.
    pub artifacts: Vec<String>,
}

/// A job about to go.
struct Candidate {
    id: String,
    state: String,
    log_bytes: i64,
    /// None if it cannot be read any more.
    job: Option<Job>,
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
    candidates.iter().map(pruned).collect()
}

/// The oldest jobs, up to the first that need not go.
async fn candidates(
    connection: &mut SqliteConnection,
    cutoff: Option<i64>,
    retention: Retention,
) -> Result<Vec<Candidate>> {
    let statement =
        format!("SELECT {} FROM jobs ORDER BY finished_at, id LIMIT ?", JOBS.selected(""));
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(i64::from(retention.batch))
        .fetch_all(&mut *connection)
        .await?;
    let mut candidates = Vec::new();
    for row in rows {
        let row = JOBS.read(&row, 0)?;
        if !row.is_whole {
            // Its time may be none. What is beyond repair here goes with this coordinator.
            return Err(Error::DamagedRow { about: JOBS.about(&row.values) });
        }
        let is_wanted = candidates.len() >= retention.oldest as usize;
        if cutoff.is_none_or(|cutoff| row.number(FINISHED_AT) >= cutoff) && is_wanted {
            break;
        }
        candidates.push(Candidate::read(connection, &row).await?);
    }
    Ok(candidates)
}

/// Removes every job that ended after the entry `through`, and every later event: what
/// happened to such a job until then stays.
pub(super) async fn remove_after(connection: &mut SqliteConnection, through: Index) -> Result<()> {
    let statement = format!(
        "SELECT {} FROM jobs WHERE id IN \
         (SELECT job FROM events WHERE entry > ? AND kind = 'job_finished')",
        JOBS.selected("")
    );
    let rows = sqlx::query(AssertSqlSafe(statement))
        .bind(to_sql(through))
        .fetch_all(&mut *connection)
        .await?;
    for row in rows {
        let candidate = Candidate::read(connection, &JOBS.read(&row, 0)?).await?;
        remove_all(connection, &[candidate]).await?;
    }
    sqlx::query("DELETE FROM events WHERE entry > ?")
        .bind(to_sql(through))
        .execute(connection)
        .await?;
    Ok(())
}

impl Candidate {
    async fn read(connection: &mut SqliteConnection, row: &Read) -> Result<Self> {
        let id = row.text(0).into_owned();
        let statement = format!("SELECT {} FROM job_records WHERE job = ?", RECORDS.selected(""));
        let record = sqlx::query(AssertSqlSafe(statement))
            .bind(&id)
            .fetch_optional(&mut *connection)
            .await?;
        let job = match record {
            Some(record) => read_job(&RECORDS.read(&record, 0)?, &id).ok(),
            None => None,
        };
        let (state, log_bytes) = (row.text(STATE).into_owned(), row.number(LOG_BYTES));
        Ok(Self { id, state, log_bytes, job })
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
    let Some(job) = &candidate.job else {
        // No index leads to these.
        for statement in [
            "DELETE FROM job_runners WHERE job = ?",
            "DELETE FROM job_labels WHERE job = ?",
            "DELETE FROM job_artifacts WHERE job = ?",
        ] {
            sqlx::query(statement).bind(&candidate.id).execute(&mut *connection).await?;
        }
        return Ok(());
    };
    let runners: Vec<String> = runner_words(job).collect();
    for runner in runners {
        sqlx::query("DELETE FROM job_runners WHERE runner = ? AND job = ?")
            .bind(runner)
            .bind(&candidate.id)
            .execute(&mut *connection)
            .await?;
    }
    for manifest in artifact_words(job) {
        sqlx::query("DELETE FROM job_artifacts WHERE manifest = ? AND job = ?")
            .bind(manifest)
            .bind(&candidate.id)
            .execute(&mut *connection)
            .await?;
    }
    for label in &job.spec.requirements.labels {
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

/// The files of one that cannot be read are found later, as those of no job.
fn pruned(candidate: &Candidate) -> Result<PrunedJob> {
    let job = candidate.job.as_ref();
    Ok(PrunedJob {
        id: read_id(&candidate.id)?,
        leases: job.iter().flat_map(|job| &job.attempts).map(|attempt| attempt.lease).collect(),
        source: job.and_then(|job| job.spec.source.clone()),
        artifacts: job.iter().flat_map(|job| artifact_words(job)).map(str::to_owned).collect(),
    })
}
