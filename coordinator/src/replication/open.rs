//! The growing files that are being copied, kept open between two fetches: to open
//! one again takes reading all of it.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

use crate::files::{Appender, FileName};

/// About how many stay open.
const MOST: usize = 1024;
/// How long one stays open that does not grow.
const IDLE: Duration = Duration::from_secs(10 * 60);

/// Appenders that are not in use at this moment.
#[derive(Default)]
pub(super) struct OpenCopies(Mutex<BTreeMap<FileName, (Appender, Instant)>>);

impl OpenCopies {
    /// The appender of a file, if it is open.
    pub(super) fn take(&self, name: FileName) -> Option<Appender> {
        self.lock().remove(&name).map(|(appender, _)| appender)
    }

    /// Keeps an appender for the next fetch. Those that were used last stay.
    pub(super) fn put(&self, name: FileName, appender: Appender) {
        let mut open = self.lock();
        open.insert(name, (appender, Instant::now()));
        if open.len() > MOST {
            let oldest = open.iter().min_by_key(|(_, (_, since))| *since).map(|(name, _)| *name);
            oldest.map(|name| open.remove(&name));
        }
    }

    /// Closes what was not used for long.
    pub(super) fn close_idle(&self) {
        self.lock().retain(|_, (_, since)| since.elapsed() < IDLE);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<FileName, (Appender, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
