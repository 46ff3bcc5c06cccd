//! What is known of damaged rows, and the walk over all rows that looks for it. Repairs
//! nothing: other coordinators have what is damaged here.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use sqlx::{Acquire as _, SqlitePool};
use tokio::time::sleep;

use super::{
    error::{Error, Result},
    sql::verify::{self, Walk},
};
use crate::{
    environment::{Blocking, waited},
    errors::REPAIR,
};

/// Damaged rows that are told apart.
const KEPT: usize = 1_000;

/// The wait after a page of rows: who has a million jobs has them looked at in some minutes.
const PAUSE: Duration = Duration::from_millis(50);

/// The wait between two walks.
const AGAIN_AFTER: Duration = Duration::from_secs(6 * 60 * 60);

/// The damaged rows of one history. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Damage {
    rows: Arc<Mutex<BTreeSet<String>>>,
}

impl Damage {
    /// Takes note of a damaged row if that is what went wrong.
    pub(super) fn noted<T>(&self, result: Result<T>) -> Result<T> {
        if let Err(Error::DamagedRow { about }) = &result {
            self.note(about);
        }
        result
    }

    pub(super) fn note(&self, about: &str) {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        if rows.len() < KEPT && rows.insert(about.to_owned()) {
            tracing::error!("the history's record of {about} is damaged; {REPAIR}");
        }
    }

    /// What to tell people; none while no damage is known.
    pub(super) fn problem(&self) -> Option<String> {
        let rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let first = rows.first()?;
        let more = match rows.len() - 1 {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        Some(format!("the history's record of {first}{more} is damaged; {REPAIR}"))
    }

    /// Looks at every row now and then, for ever.
    pub(super) async fn look(self, readers: SqlitePool, threads: Arc<dyn Blocking>) {
        loop {
            match self.walk(&readers, &*threads).await {
                Ok(()) => {}
                // It stops.
                Err(Error::Sql(sqlx::Error::PoolClosed)) => return,
                Err(error) => {
                    tracing::warn!(%error, "cannot look through the history for damage");
                }
            }
            sleep(AGAIN_AFTER).await;
        }
    }

    async fn walk(&self, readers: &SqlitePool, threads: &dyn Blocking) -> Result<()> {
        let mut walk = Walk::default();
        while let Some(damaged) = waited(threads, page(&mut walk, readers)).await? {
            damaged.iter().for_each(|about| self.note(about));
            sleep(PAUSE).await;
        }
        let indexes = async {
            let mut connection = readers.acquire().await?;
            verify::indexes(&mut connection).await
        };
        for found in waited(threads, indexes).await? {
            self.note(&format!("the order of jobs ({found})"));
        }
        Ok(())
    }
}

/// A page as of one moment.
async fn page(walk: &mut Walk, readers: &SqlitePool) -> Result<Option<Vec<String>>> {
    let mut connection = readers.acquire().await?;
    let mut moment = connection.begin().await?;
    let damaged = walk.page(&mut moment).await?;
    moment.commit().await?;
    Ok(damaged)
}
