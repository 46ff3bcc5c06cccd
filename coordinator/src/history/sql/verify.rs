//! Looks at every row for damage that SQLite does not see, a page at a time, and gives
//! the rows of an older version their checksums.

use std::fmt::Write as _;

use baton_state::Job;
use sqlx::{
    AssertSqlSafe, Connection as _, Row as _, Sqlite, SqliteConnection,
    query::Query,
    sqlite::{SqliteArguments, SqliteRow},
};

use super::{
    insert::{artifact_words, runner_words},
    rows::{PROGRESS, RECORDS, Read, TABLES, Table, Value},
};
use crate::history::error::{Error, Result};

/// Rows in one page.
const ROWS: u32 = 500;

/// Words of the jobs in a JSON array of pairs that are not in the table.
const LACKING_RUNNERS: &str = "SELECT DISTINCT w.value ->> 1 FROM json_each(?) AS w \
     WHERE NOT EXISTS (SELECT 1 FROM job_runners k \
     WHERE k.runner = w.value ->> 0 AND k.job = w.value ->> 1)";
const LACKING_LABELS: &str = "SELECT DISTINCT w.value ->> 1 FROM json_each(?) AS w \
     WHERE NOT EXISTS (SELECT 1 FROM job_labels k \
     WHERE k.label = w.value ->> 0 AND k.job = w.value ->> 1)";

const LACKING_ARTIFACTS: &str = "SELECT DISTINCT w.value ->> 1 FROM json_each(?) AS w \
     WHERE NOT EXISTS (SELECT 1 FROM job_artifacts k \
     WHERE k.manifest = w.value ->> 0 AND k.job = w.value ->> 1)";

/// How far a walk over everything has come.
#[derive(Default)]
pub(in crate::history) struct Walk {
    table: usize,
    /// The key of the last row.
    after: Option<Vec<Value<'static>>>,
}

impl Walk {
    /// Looks at a page. Gives what its damaged rows are about; none at the end.
    pub(in crate::history) async fn page(
        &mut self,
        connection: &mut SqliteConnection,
    ) -> Result<Option<Vec<String>>> {
        let Some(table) = TABLES.get(self.table) else { return Ok(None) };
        let rows = page(connection, table, self.after.as_deref(), "").await?;
        let mut damaged = Vec::new();
        let mut whole = Vec::new();
        for row in &rows {
            let read = table.read(row, 1)?;
            let has_company: bool = row.try_get(0)?;
            if read.is_whole && has_company {
                whole.push(read);
            } else {
                damaged.push(table.about(&read.values));
            }
        }
        if table.name == RECORDS.name {
            damaged.append(&mut lacking_words(connection, &whole).await?);
        }
        self.advance(table, rows.last())?;
        Ok(Some(damaged))
    }

    fn advance(&mut self, table: &Table, last: Option<&SqliteRow>) -> Result<()> {
        let key = last.map(|row| key_of(table, row)).transpose()?;
        // In a damaged tree a key may come back to one before it.
        if key.is_some() && key > self.after {
            self.after = key;
        } else {
            *self = Self { table: self.table + 1, after: None };
        }
        Ok(())
    }
}

/// Looks at every row; an error if one of them is not what was written.
pub(super) async fn all(connection: &mut SqliteConnection) -> Result<()> {
    progress(connection).await?;
    let mut walk = Walk::default();
    while let Some(damaged) = walk.page(connection).await? {
        if let Some(about) = damaged.into_iter().next() {
            return Err(Error::DamagedRow { about });
        }
    }
    Ok(())
}

/// How far the history goes.
pub(super) async fn progress(connection: &mut SqliteConnection) -> Result<i64> {
    let statement = format!("SELECT {} FROM progress", PROGRESS.selected(""));
    let row = sqlx::query(AssertSqlSafe(statement)).fetch_one(connection).await?;
    let read = PROGRESS.read(&row, 0)?;
    if read.is_whole {
        Ok(read.number(0))
    } else {
        Err(Error::DamagedRow { about: PROGRESS.about(&read.values) })
    }
}

/// Sets how far the history goes; the rows this concerns.
pub(super) async fn set_progress(connection: &mut SqliteConnection, through: i64) -> Result<u64> {
    let set = sqlx::query("UPDATE progress SET through = ?, checksum = ?")
        .bind(through)
        .bind(PROGRESS.checksum(&[through.into()]))
        .execute(connection)
        .await?;
    Ok(set.rows_affected())
}

/// Looks whether the indexes of the jobs say what the jobs do.
pub(in crate::history) async fn indexes(connection: &mut SqliteConnection) -> Result<Vec<String>> {
    let found: Vec<String> =
        sqlx::query_scalar("PRAGMA integrity_check(jobs)").fetch_all(connection).await?;
    Ok(if found == ["ok"] { Vec::new() } else { found })
}

/// Gives the rows of an older version their checksums, once.
pub(super) async fn fill(connection: &mut SqliteConnection) -> Result<()> {
    let (through, checksum): (i64, Option<i64>) =
        sqlx::query_as("SELECT through, checksum FROM progress")
            .fetch_one(&mut *connection)
            .await?;
    if checksum.is_some() {
        return Ok(());
    }
    for table in &TABLES {
        let mut after: Option<Vec<Value<'static>>> = None;
        loop {
            let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
            let rows = page(&mut transaction, table, after.as_deref(), "checksum IS NULL").await?;
            for row in &rows {
                give_checksum(&mut transaction, table, &table.read(row, 1)?).await?;
            }
            transaction.commit().await?;
            match rows.last() {
                Some(last) => after = Some(key_of(table, last)?),
                None => break,
            }
        }
    }
    set_progress(connection, through).await?;
    Ok(())
}

async fn give_checksum(connection: &mut SqliteConnection, table: &Table, row: &Read) -> Result<()> {
    if row.checksum.is_some() {
        return Ok(());
    }
    let (name, key) = (table.name, table.key());
    let values = placeholders(&row.values[..table.keys]);
    let statement = format!("UPDATE {name} SET checksum = ? WHERE ({key}) = ({values})");
    let update = sqlx::query(AssertSqlSafe(statement)).bind(table.checksum(&row.values));
    bind(update, &row.values[..table.keys]).execute(connection).await?;
    Ok(())
}

/// A page of rows in the order of their key: whether those are there that go with one,
/// and all of it.
async fn page(
    connection: &mut SqliteConnection,
    table: &Table,
    after: Option<&[Value<'static>]>,
    only: &str,
) -> Result<Vec<SqliteRow>> {
    let (name, key) = (table.name, table.key());
    let mut statement =
        format!("SELECT {}, {} FROM {name} WHERE 1 = 1", table.company, table.selected(""));
    if !only.is_empty() {
        let _ = write!(statement, " AND {only}");
    }
    if let Some(after) = after {
        let _ = write!(statement, " AND ({key}) > ({})", placeholders(after));
    }
    let _ = write!(statement, " ORDER BY {key} LIMIT {ROWS}");
    let query = bind(sqlx::query(AssertSqlSafe(statement)), after.unwrap_or_default());
    Ok(query.fetch_all(connection).await?)
}

fn key_of(table: &Table, row: &SqliteRow) -> Result<Vec<Value<'static>>> {
    let mut values = table.read(row, 1)?.values;
    values.truncate(table.keys);
    Ok(values)
}

fn placeholders(key: &[Value<'_>]) -> String {
    let each = key.iter().map(|value| match value {
        // A text that may be none any more.
        Value::Bytes(_) => "CAST(? AS TEXT)",
        Value::Null | Value::Number(_) => "?",
    });
    each.collect::<Vec<_>>().join(", ")
}

fn bind<'q>(
    mut query: Query<'q, Sqlite, SqliteArguments>,
    key: &[Value<'_>],
) -> Query<'q, Sqlite, SqliteArguments> {
    for value in key {
        query = match value {
            Value::Null => query.bind(None::<i64>),
            Value::Number(number) => query.bind(*number),
            Value::Bytes(bytes) => query.bind(bytes.to_vec()),
        };
    }
    query
}

/// The jobs that would not be found by one of their runners or labels, or whose
/// artifacts would not be kept.
async fn lacking_words(connection: &mut SqliteConnection, records: &[Read]) -> Result<Vec<String>> {
    let (mut runners, mut labels, mut artifacts) = (Vec::new(), Vec::new(), Vec::new());
    for record in records {
        let id = record.text(0);
        let job: Job = serde_json::from_slice(record.bytes(1))
            .map_err(|cause| Error::unreadable(&id, &cause))?;
        runners.extend(runner_words(&job).map(|word| (word, id.clone().into_owned())));
        let words = job.spec.requirements.labels.iter();
        labels.extend(words.map(|word| (word.clone(), id.clone().into_owned())));
        let words = artifact_words(&job);
        artifacts.extend(words.map(|word| (word.to_owned(), id.clone().into_owned())));
    }
    let mut damaged = Vec::new();
    let all =
        [(LACKING_RUNNERS, runners), (LACKING_LABELS, labels), (LACKING_ARTIFACTS, artifacts)];
    for (lacking, words) in all {
        if words.is_empty() {
            continue;
        }
        let words = serde_json::to_string(&words)
            .map_err(|cause| Error::unreadable("the words of jobs", &cause))?;
        let jobs: Vec<String> =
            sqlx::query_scalar(lacking).bind(words).fetch_all(&mut *connection).await?;
        damaged.extend(jobs.into_iter().map(|job| format!("job {job}")));
    }
    Ok(damaged)
}
