//! Copies that end at another entry than they did: one for a backup ends where the
//! state does, and one that was restored ends where the new log begins.

use std::path::Path;

use baton_state::Index;
use sqlx::{
    ConnectOptions as _, Connection as _, SqliteConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode},
};

use super::{Database, checkpoint, prune, to_sql, verify};
use crate::history::error::{Error, Result};

/// Removes from a copy what happened after the entry `through`.
pub(in crate::history) async fn cut(path: &Path, through: Index) -> Result<()> {
    let options =
        SqliteConnectOptions::new().filename(path).journal_mode(SqliteJournalMode::Memory);
    let mut connection = options.connect().await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    prune::remove_after(&mut transaction, through).await?;
    move_to(&mut transaction, through).await?;
    transaction.commit().await?;
    connection.close().await?;
    Ok(())
}

/// Brings a copy's tables up to date, looks at every row, and moves its end from one entry
/// to another, on disk when this returns.
pub(in crate::history) async fn adopt(
    database: &Database,
    path: &Path,
    from: Index,
    to: Index,
) -> Result<()> {
    database.check().await?;
    let (mut connection, position) = database.prepare().await?;
    verify::all(&mut connection).await?;
    if position != from {
        return Err(Error::UnusableCopy {
            path: path.to_owned(),
            cause: format!("it ends at entry {position}, and not at {from}"),
        });
    }
    move_to(&mut connection, to).await?;
    checkpoint(&mut connection).await?;
    connection.close().await?;
    Ok(())
}

async fn move_to(connection: &mut SqliteConnection, through: Index) -> Result<()> {
    match verify::set_progress(connection, to_sql(through)).await? {
        1 => Ok(()),
        rows => Err(Error::unreadable("its end", &format!("{rows} rows"))),
    }
}
