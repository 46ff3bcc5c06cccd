//! Whole histories: a copy for another member, and a copy that takes the place of
//! what is here.

use std::path::Path;

use baton_state::Index;
use sqlx::{
    AssertSqlSafe, ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::SqliteConnectOptions,
};

use super::{MIGRATIONS, from_sql, verify};
use crate::history::error::{Error, Result};

/// Every table but those that say how the tables came to be.
const TABLES: &str = "SELECT name FROM main.sqlite_schema WHERE type = 'table' \
     AND name NOT GLOB 'sqlite_*' AND name <> '_sqlx_migrations'";

/// Writes a copy to `to`, as of one moment, and gives its position; none if a row of it
/// is not what was written. The database
/// can be written meanwhile, but its write-ahead log is not given up.
pub(in crate::history) async fn write(from: &SqliteConnectOptions, to: &Path) -> Result<Index> {
    // What an earlier try has left would be in the way.
    remove(to).await?;
    let written = try_write(from, to).await;
    if written.is_err() {
        // The error tells more than a second one would.
        let _ = remove(to).await;
    }
    written
}

async fn try_write(from: &SqliteConnectOptions, to: &Path) -> Result<Index> {
    let mut connection = from.connect().await?;
    sqlx::query("VACUUM INTO ?").bind(name(to)?).execute(&mut connection).await?;
    connection.close().await?;
    sync(to).await.map_err(|cause| Error::Copy { path: to.to_owned(), cause })?;
    let mut copy = reading(to).connect().await?;
    // What is damaged here must not become what another one has.
    verify::all(&mut copy).await?;
    let position = position(&mut copy).await?;
    copy.close().await?;
    Ok(position)
}

async fn remove(path: &Path) -> Result<()> {
    match tokio::fs::remove_file(path).await {
        Err(cause) if cause.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Copy { path: path.to_owned(), cause })
        }
        _ => Ok(()),
    }
}

async fn sync(path: &Path) -> std::io::Result<()> {
    tokio::fs::File::open(path).await?.sync_all().await?;
    match path.parent() {
        Some(folder) => tokio::fs::File::open(folder).await?.sync_all().await,
        None => Ok(()),
    }
}

/// Whether the file is an intact copy of a history with these tables.
pub(in crate::history) async fn check(path: &Path) -> Result<()> {
    let unusable = |cause: String| Error::UnusableCopy { path: path.to_owned(), cause };
    let failed = |cause: sqlx::Error| unusable(cause.to_string());
    let mut copy = reading(path).connect().await.map_err(failed)?;
    let found: Vec<String> =
        sqlx::query_scalar("PRAGMA quick_check(5)").fetch_all(&mut copy).await.map_err(failed)?;
    if found != ["ok"] {
        return Err(unusable(found.join("; ")));
    }
    let version: Option<i64> = sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations")
        .fetch_one(&mut copy)
        .await
        .map_err(failed)?;
    let known = MIGRATIONS.iter().map(|migration| migration.version).max();
    if version != known {
        return Err(unusable(format!(
            "its tables have version {}, and those here {}; let both members run the same version \
             of Baton",
            version.unwrap_or(0),
            known.unwrap_or(0)
        )));
    }
    verify::all(&mut copy).await.map_err(|error| unusable(error.to_string()))?;
    copy.close().await.map_err(failed)?;
    Ok(())
}

/// Puts a copy that was checked in place of all there is, unless that is as new.
/// Gives the position, which is on disk when this returns. After an error the
/// connection is of no more use, and either of the two is there.
pub(in crate::history) async fn take_over(
    connection: &mut SqliteConnection,
    copy: &Path,
) -> Result<Index> {
    // Neither is possible inside a transaction.
    sqlx::query("ATTACH DATABASE ? AS copy").bind(name(copy)?).execute(&mut *connection).await?;
    sqlx::query("PRAGMA main.synchronous = FULL").execute(&mut *connection).await?;
    let position = replace(connection).await?;
    sqlx::query("PRAGMA main.synchronous = NORMAL").execute(&mut *connection).await?;
    sqlx::query("DETACH DATABASE copy").execute(&mut *connection).await?;
    Ok(position)
}

async fn replace(connection: &mut SqliteConnection) -> Result<Index> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let new: i64 = sqlx::query_scalar("SELECT through FROM copy.progress")
        .fetch_one(&mut *transaction)
        .await?;
    let old: i64 = sqlx::query_scalar("SELECT through FROM main.progress")
        .fetch_one(&mut *transaction)
        .await?;
    if new > old {
        let tables: Vec<String> = sqlx::query_scalar(TABLES).fetch_all(&mut *transaction).await?;
        for table in tables {
            for statement in [
                format!("DELETE FROM main.{table}"),
                format!("INSERT INTO main.{table} SELECT * FROM copy.{table}"),
            ] {
                sqlx::query(AssertSqlSafe(statement))
                    .persistent(false)
                    .execute(&mut *transaction)
                    .await?;
            }
        }
    } else {
        // So that what is there comes to the disk.
        sqlx::query("UPDATE main.progress SET through = through")
            .execute(&mut *transaction)
            .await?;
    }
    transaction.commit().await?;
    Ok(from_sql(new.max(old)))
}

async fn position(connection: &mut SqliteConnection) -> Result<Index> {
    Ok(from_sql(verify::progress(connection).await?))
}

fn reading(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new().filename(path).read_only(true)
}

/// A path as SQL can have it.
fn name(path: &Path) -> Result<&str> {
    path.to_str().ok_or_else(|| Error::Copy {
        path: path.to_owned(),
        cause: std::io::Error::other("the path is not UTF-8"),
    })
}
