//! Events into rows: one transaction for a batch and the position it reaches.

use std::collections::{BTreeMap, BTreeSet};

use baton_state::{Event, EventKind, Job, JobId, Phase, Request, Timestamp};
use sqlx::{Connection as _, QueryBuilder, Sqlite, SqliteConnection};

use super::{
    rows::{EVENTS, JOBS, RECORDS, REQUESTS},
    source_word, state_word, to_sql, verify,
};
use crate::history::{
    Batch,
    error::{Error, Result},
    filter::{fold, is_dead_letter},
};

/// Rows in one statement: no table's row takes more than 9 of SQLite's 32,766 parameters.
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
    verify::set_progress(&mut transaction, to_sql(batch.through)).await?;
    transaction.commit().await?;
    Ok(())
}

async fn insert_jobs(connection: &mut SqliteConnection, jobs: &[&Job]) -> Result<()> {
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO jobs (id, project, state, name, finished_at, dead_letter, source, log_bytes, \
         checksum) ",
    );
    query.push_values(jobs, |mut row, job| {
        let (id, name) = (job.id.to_string(), fold(&job.spec.name));
        let state = job.outcome().map_or("", |outcome| state_word(outcome.state));
        let (at, log_bytes) = (to_sql(finished_at(job).0), to_sql(log_bytes(job)));
        let dead_letter = i64::from(is_dead_letter(job));
        let source = source_word(&job.spec);
        let checksum = JOBS.checksum(&[
            id.as_str().into(),
            job.spec.project.as_str().into(),
            state.into(),
            name.as_str().into(),
            at.into(),
            dead_letter.into(),
            source.as_deref().into(),
            log_bytes.into(),
        ]);
        row.push_bind(id)
            .push_bind(job.spec.project.clone())
            .push_bind(state)
            .push_bind(name)
            .push_bind(at)
            .push_bind(dead_letter)
            .push_bind(source)
            .push_bind(log_bytes)
            .push_bind(checksum);
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
    let mut artifacts = Vec::new();
    for job in jobs {
        artifacts.extend(artifact_words(job).map(|word| (word.to_owned(), job.id)));
        runners.extend(runner_words(job).map(|word| (word, job.id)));
        labels.extend(job.spec.requirements.labels.iter().map(|word| (word.clone(), job.id)));
    }
    insert_words(connection, "INSERT INTO job_runners (runner, job) ", &runners).await?;
    insert_words(connection, "INSERT INTO job_labels (label, job) ", &labels).await?;
    let statement = "INSERT INTO job_artifacts (manifest, job) ";
    insert_words(connection, statement, &artifacts).await?;
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
    let mut query = QueryBuilder::<Sqlite>::new("INSERT INTO job_records (job, record, checksum) ");
    query.push_values(records, |mut row, (id, record)| {
        let checksum = RECORDS.checksum(&[id.as_str().into(), record.as_str().into()]);
        row.push_bind(id).push_bind(record).push_bind(checksum);
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
        let mut query = QueryBuilder::<Sqlite>::new(
            "INSERT INTO requests (idempotency_key, digest, job, checksum) ",
        );
        query.push_values(requests, |mut row, (request, job)| {
            row.push_bind(request.key.clone())
                .push_bind(request.digest.to_vec())
                .push_bind(job.to_string())
                .push_bind(request_checksum(request, *job));
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
        "INSERT INTO requests (idempotency_key, digest, job, checksum) \
         SELECT ?, ?, id, ? FROM jobs WHERE id = ? ON CONFLICT DO NOTHING",
    )
    .bind(&request.key)
    .bind(request.digest.to_vec())
    .bind(request_checksum(request, job))
    .bind(job.to_string())
    .execute(connection)
    .await?;
    Ok(())
}

fn request_checksum(request: &Request, job: JobId) -> i64 {
    let job = job.to_string();
    REQUESTS.checksum(&[
        request.key.as_str().into(),
        request.digest.as_slice().into(),
        job.as_str().into(),
    ])
}

async fn insert_events(connection: &mut SqliteConnection, events: &[&Event]) -> Result<()> {
    let payloads = events.iter().map(|event| payload(event)).collect::<Result<Vec<_>>>()?;
    let mut query = QueryBuilder::<Sqlite>::new(
        "INSERT INTO events (entry, ordinal, at, kind, job, runner, payload, checksum) ",
    );
    query.push_values(events.iter().zip(payloads), |mut row, (event, payload)| {
        let (entry, ordinal) = (to_sql(event.index), i64::from(event.ordinal));
        let (at, kind) = (to_sql(event.at.0), event.kind.name());
        let job = event.kind.job().map(|job| job.to_string());
        let runner = event.kind.runner().map(|runner| runner.0.clone());
        let checksum = EVENTS.checksum(&[
            entry.into(),
            ordinal.into(),
            at.into(),
            kind.into(),
            job.as_deref().into(),
            runner.as_deref().into(),
            payload.as_deref().into(),
        ]);
        row.push_bind(entry)
            .push_bind(ordinal)
            .push_bind(at)
            .push_bind(kind)
            .push_bind(job)
            .push_bind(runner)
            .push_bind(payload)
            .push_bind(checksum);
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

/// The manifests of what a job left, each once.
pub(super) fn artifact_words(job: &Job) -> impl Iterator<Item = &str> {
    let manifests = job.artifacts().map(|tree| tree.digest.as_str());
    manifests.collect::<BTreeSet<_>>().into_iter()
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
