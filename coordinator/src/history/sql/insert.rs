//! Events into rows: one transaction for a batch and the position it reaches.

use std::collections::{BTreeMap, BTreeSet};

use baton_state::{Event, EventKind, Job, JobId, Phase, Request, Timestamp};
use sqlx::{Connection as _, QueryBuilder, Sqlite, SqliteConnection};

use super::{state_word, to_sql};
use crate::history::{
    Batch,
    error::{Error, Result},
    filter::{fold, is_dead_letter},
};

/// Rows in one statement: no table's row takes more than 8 of SQLite's 32,766 parameters.
const ROWS: usize = 2_000;

/// Stores a batch and its position, or nothing at all.
pub(in crate::history) async fn batch(
    connection: &mut SqliteConnection,
    batch: &Batch,
) -> Result<()> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let finished: Vec<&Job> = batch
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            EventKind::JobFinished { job } => Some(&**job),
            _ => None,
        })
        .collect();
    for jobs in finished.chunks(ROWS) {
        insert_jobs(&mut transaction, jobs).await?;
    }
    for event in &batch.events {
        if let EventKind::KeyTaken { job, request } = &event.kind {
            insert_late_request(&mut transaction, *job, request).await?;
        }
    }
    // Evictions concern the state and not the job; a key stands among the requests.
    let elsewhere = |event: &Event| {
        matches!(event.kind, EventKind::JobEvicted { .. } | EventKind::KeyTaken { .. })
    };
    let kept: Vec<&Event> = batch.events.iter().filter(|event| !elsewhere(event)).collect();
    for events in kept.chunks(ROWS) {
        insert_events(&mut transaction, events).await?;
    }
    sqlx::query("UPDATE progress SET through = ?")
        .bind(to_sql(batch.through))
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(())
}

async fn insert_jobs(connection: &mut SqliteConnection, jobs: &[&Job]) -> Result<()> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO jobs (id, project, state, name, finished_at, dead_letter, source, log_bytes) ",
    );
    query.push_values(jobs, |mut row, job| {
        row.push_bind(job.id.to_string())
            .push_bind(job.spec.project.clone())
            .push_bind(job.outcome().map_or("", |outcome| state_word(outcome.state)))
            .push_bind(fold(&job.spec.name))
            .push_bind(to_sql(finished_at(job).0))
            .push_bind(i64::from(is_dead_letter(job)))
            .push_bind(job.spec.archive().map(|archive| archive.digest.clone()))
            .push_bind(to_sql(log_bytes(job)));
    });
    // A row that cannot be stored would hold up everything after it.
    query.push(" ON CONFLICT DO NOTHING RETURNING state, log_bytes");
    let rows: Vec<(String, i64)> =
        query.build_query_as().persistent(false).fetch_all(&mut *connection).await?;
    let mut added: BTreeMap<String, (i64, i64)> = BTreeMap::new();
    for (state, log_bytes) in rows {
        let (jobs, bytes) = added.entry(state).or_default();
        *jobs += 1;
        *bytes = bytes.saturating_add(log_bytes);
    }
    add_totals(connection, added).await?;
    insert_records(connection, jobs).await?;
    let mut runners = Vec::new();
    let mut labels = Vec::new();
    for job in jobs {
        runners.extend(runner_words(job).map(|word| (word, job.id)));
        labels.extend(job.spec.requirements.labels.iter().map(|word| (word.clone(), job.id)));
    }
    insert_words(connection, "INSERT INTO job_runners (runner, job) ", &runners).await?;
    insert_words(connection, "INSERT INTO job_labels (label, job) ", &labels).await?;
    insert_requests(connection, jobs).await
}

/// Adds jobs and bytes to the sums of their states; takes them off when negative.
pub(super) async fn add_totals(
    connection: &mut SqliteConnection,
    added: BTreeMap<String, (i64, i64)>,
) -> Result<()> {
    for (state, (jobs, log_bytes)) in added {
        sqlx::query(
            "INSERT INTO totals (state, jobs, log_bytes) VALUES (?, ?, ?) \
             ON CONFLICT (state) DO UPDATE SET jobs = totals.jobs + excluded.jobs, \
             log_bytes = totals.log_bytes + excluded.log_bytes",
        )
        .bind(state)
        .bind(jobs)
        .bind(log_bytes)
        .execute(&mut *connection)
        .await?;
    }
    Ok(())
}

async fn insert_records(connection: &mut SqliteConnection, jobs: &[&Job]) -> Result<()> {
    let records = jobs
        .iter()
        .map(|job| {
            let record = serde_json::to_string(job);
            let record = record.map_err(|cause| Error::unreadable(&job.id, &cause))?;
            Ok((job.id.to_string(), record))
        })
        .collect::<Result<Vec<_>>>()?;
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO job_records (job, record) ");
    query.push_values(records, |mut row, (id, record)| {
        row.push_bind(id).push_bind(record);
    });
    query.push(" ON CONFLICT DO NOTHING");
    query.build().persistent(false).execute(connection).await?;
    Ok(())
}

async fn insert_words(
    connection: &mut SqliteConnection,
    into: &'static str,
    words: &[(String, JobId)],
) -> Result<()> {
    for words in words.chunks(ROWS) {
        let mut query = QueryBuilder::<Sqlite>::new(into);
        query.push_values(words, |mut row, (word, job)| {
            row.push_bind(word.clone()).push_bind(job.to_string());
        });
        query.push(" ON CONFLICT DO NOTHING");
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

/// The first use of a key counts.
async fn insert_requests(connection: &mut SqliteConnection, jobs: &[&Job]) -> Result<()> {
    let mut requests: Vec<(&Request, JobId)> = Vec::new();
    for job in jobs {
        requests.extend(job.keys.iter().map(|request| (request, job.id)));
    }
    for requests in requests.chunks(ROWS) {
        let mut query =
            QueryBuilder::<Sqlite>::new("INSERT INTO requests (idempotency_key, digest, job) ");
        query.push_values(requests, |mut row, (request, job)| {
            row.push_bind(request.key.clone())
                .push_bind(request.digest.to_vec())
                .push_bind(job.to_string());
        });
        query.push(" ON CONFLICT DO NOTHING");
        query.build().persistent(false).execute(&mut *connection).await?;
    }
    Ok(())
}

/// A key that was taken after the job's end. Without its job nothing would ever
/// remove it: then retention has ended for both.
async fn insert_late_request(
    connection: &mut SqliteConnection,
    job: JobId,
    request: &Request,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO requests (idempotency_key, digest, job) \
         SELECT ?, ?, id FROM jobs WHERE id = ? ON CONFLICT DO NOTHING",
    )
    .bind(&request.key)
    .bind(request.digest.to_vec())
    .bind(job.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

async fn insert_events(connection: &mut SqliteConnection, events: &[&Event]) -> Result<()> {
    let payloads = events.iter().map(|event| payload(event)).collect::<Result<Vec<_>>>()?;
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO events (entry, ordinal, at, kind, job, runner, payload) ",
    );
    query.push_values(events.iter().zip(payloads), |mut row, (event, payload)| {
        row.push_bind(to_sql(event.index))
            .push_bind(i64::from(event.ordinal))
            .push_bind(to_sql(event.at.0))
            .push_bind(event.kind.name())
            .push_bind(event.kind.job().map(|job| job.to_string()))
            .push_bind(event.kind.runner().map(|runner| runner.0.clone()))
            .push_bind(payload);
    });
    query.push(" ON CONFLICT DO NOTHING");
    query.build().persistent(false).execute(connection).await?;
    Ok(())
}

/// What the event says; none where the job's record does.
fn payload(event: &Event) -> Result<Option<String>> {
    if matches!(event.kind, EventKind::JobFinished { .. }) {
        return Ok(None);
    }
    let payload = serde_json::to_string(&event.kind);
    payload.map(Some).map_err(|cause| Error::unreadable(&event.index, &cause))
}

/// Ids and names of the runners that had the job, each once.
pub(super) fn runner_words(job: &Job) -> impl Iterator<Item = String> + use<> {
    let words: BTreeSet<String> = job
        .attempts
        .iter()
        .flat_map(|attempt| [attempt.runner.0.clone(), attempt.runner_name.clone()])
        .collect();
    words.into_iter()
}

fn finished_at(job: &Job) -> Timestamp {
    match job.phase {
        Phase::Finished { at, .. } => at,
        _ => job.submitted_at,
    }
}

/// Bytes of the stored output of all attempts whose output is complete.
fn log_bytes(job: &Job) -> u64 {
    let logs = job.attempts.iter().filter_map(|attempt| attempt.log.as_ref());
    logs.fold(0, |sum: u64, log| sum.saturating_add(log.file_length))
}
