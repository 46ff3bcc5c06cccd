//! What happened, line by line: its hash says whether two runs were the same, and
//! people read it when a run failed.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// The history of one run. Clones are the same.
#[derive(Clone, Debug)]
pub struct Trace(Arc<Mutex<Lines>>);

#[derive(Debug)]
struct Lines {
    hasher: blake3::Hasher,
    count: u64,
    shown: bool,
}

impl Trace {
    /// An empty history, which is printed as it comes about if `shown`.
    #[must_use]
    pub fn new(shown: bool) -> Self {
        Self(Arc::new(Mutex::new(Lines { hasher: blake3::Hasher::new(), count: 0, shown })))
    }

    /// Adds a line.
    pub fn line(&self, now: Duration, what: fmt::Arguments<'_>) {
        let line = format!("{:>9.3} {what}\n", now.as_secs_f64());
        let mut lines = self.lock();
        lines.hasher.update(line.as_bytes());
        lines.count += 1;
        if lines.shown {
            #[expect(clippy::print_stderr, reason = "somebody wants to see it")]
            {
                eprint!("{line}");
            }
        }
    }

    /// The hash of all lines, and how many there are.
    #[must_use]
    pub fn digest(&self) -> (blake3::Hash, u64) {
        let lines = self.lock();
        (lines.hasher.finalize(), lines.count)
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
