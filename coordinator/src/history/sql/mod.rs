//! Everything that is SQL: the database's file and connections, and the
//! statements. No other module names a table.

pub(super) mod copy;
pub(super) mod events;
pub(super) mod insert;
pub(super) mod list;
pub(super) mod prune;
mod rows;
pub(super) mod select;
pub(super) mod shift;
pub(super) mod verify;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use baton_state::{Final, Index, JobSpec};
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection, SqlitePool,
    migrate::Migrator,
    sqlite::{
        SqliteAutoVacuum, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions,
        SqliteSynchronous,
    },
};

use super::error::{Error, Result};

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// How long a statement waits for a lock of another process, such as a backup.
const BUSY: Duration = Duration::from_secs(5);

/// A file of at most this many bytes is checked whole when it is opened, which
/// takes about a second. A larger one is not: leases end while a node starts. Nor
/// would it help to check after a crash only, since a crash does not damage it
/// and a disk needs none.
const CHECKED: u64 = 256 * 1024 * 1024;

/// The final states with the words that stand for them in SQL. Never change one.
const STATES: [(Final, &str); 6] = [
    (Final::Succeeded, "succeeded"),
    (Final::Failed, "failed"),
    (Final::TimedOut, "timed_out"),
    (Final::Cancelled, "cancelled"),
    (Final::Error, "error"),
    (Final::Lost, "lost"),
];

/// What stands before the digest of a manifest where a source is named, and the first text
/// after all that begin like that. Never change it.
const TREE: &str = "tree:";
const TREE_END: &str = "tree;";

/// The database's file and how it is opened.
pub(super) struct Database {
    path: PathBuf,
    options: SqliteConnectOptions,
}

impl Database {
    pub(super) fn new(path: &Path) -> Self {
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .auto_vacuum(SqliteAutoVacuum::Incremental)
            .journal_mode(SqliteJournalMode::Wal)
            // A loss of power may take the last transactions but never damages the
            // file; a checkpoint is what makes them safe.
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(BUSY)
            .thread_name(|_| "history-writer".to_owned())
            .pragma("journal_size_limit", "67108864");
        Self { path: path.to_owned(), options }
    }

    /// Lets the file grow to this many pages only, like a disk that is full.
    #[cfg(test)]
    pub(super) fn limited_to(mut self, pages: u32) -> Self {
        self.options = self.options.pragma("max_page_count", pages.to_string());
        self
    }

    /// Looks for damage in all of the file, unless it is very large.
    pub(super) async fn check(&self) -> Result<()> {
        let size = std::fs::metadata(&self.path).map_or(0, |file| file.len());
        if size == 0 {
            return Ok(());
        }
        if size > CHECKED {
            tracing::info!(file = %self.path.display(), size, "the history is too large to be checked at the start");
            return Ok(());
        }
        let failed = |cause| Error::opening(&self.path, cause);
        let mut connection = self.options.connect().await.map_err(failed)?;
        let found: Vec<String> = sqlx::query_scalar("PRAGMA quick_check(5)")
            .fetch_all(&mut connection)
            .await
            .map_err(failed)?;
        connection.close().await.map_err(failed)?;
        if found == ["ok"] {
            return Ok(());
        }
        Err(Error::Damaged { path: self.path.clone(), cause: found.join("; ") })
    }

    /// A connection that may write, to tables that are up to date, and the position.
    pub(super) async fn prepare(&self) -> Result<(SqliteConnection, Index)> {
        let mut connection =
            self.options.connect().await.map_err(|cause| Error::opening(&self.path, cause))?;
        let newest = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or(0);
        MIGRATIONS
            .run_direct(None, &mut connection, false)
            .await
            .map_err(|cause| Error::migrating(&self.path, newest, cause))?;
        let position = async {
            verify::fill(&mut connection).await?;
            verify::progress(&mut connection).await
        };
        let position = position.await.map_err(|error| match error {
            Error::Sql(cause) => Error::opening(&self.path, cause),
            error => Error::Damaged { path: self.path.clone(), cause: error.to_string() },
        })?;
        Ok((connection, from_sql(position)))
    }

    /// Connections that only read, `most` of them at once; they never wait for the one that writes.
    pub(super) fn readers(&self, most: u32) -> SqlitePool {
        let options = SqliteConnectOptions::new()
            .filename(&self.path)
            .read_only(true)
            .busy_timeout(BUSY)
            .thread_name(|id| format!("history-reader-{id}"));
        SqlitePoolOptions::new().max_connections(most).connect_lazy_with(options)
    }
}

/// Puts everything that was committed into the database's main file, on disk.
pub(super) async fn checkpoint(connection: &mut SqliteConnection) -> Result<()> {
    let (busy, _, _): (i64, i64, i64) =
        sqlx::query_as("PRAGMA wal_checkpoint(FULL)").fetch_one(connection).await?;
    if busy == 0 { Ok(()) } else { Err(Error::Busy) }
}

/// SQL's integers have a sign; no number here comes near to its limit.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn state_word(state: Final) -> &'static str {
    STATES.iter().find(|(known, _)| *known == state).map_or("", |(_, word)| word)
}

/// What is stored for a job, by name.
fn source_word(spec: &JobSpec) -> Option<String> {
    let archive = spec.archive().map(|archive| archive.digest.clone());
    archive.or_else(|| spec.tree().map(|tree| format!("{TREE}{}", tree.digest)))
}
