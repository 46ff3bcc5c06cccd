//! The end of a job whose tree is gone: the rest of the output, its end, the
//! record of the exit. A disk that refuses them is waited for, but not for ever.

use std::{io, time::Duration};

use super::{folder::Folder, limits::human, output::Output, record};
use crate::executor::Exit;

/// How long a disk may refuse the job's output when nothing else was said.
pub(super) const DISK_PATIENCE: Duration = Duration::from_secs(600);
/// How long a disk may refuse the last words, when a runner can be told.
const REFUSED_FOR: Duration = Duration::from_secs(30);
/// Time between two attempts to write to a disk that refused.
pub(super) const RETRY_INTERVAL: Duration = Duration::from_millis(250);

/// How far the end has come. Times are those of [`crate::clock::monotonic`].
#[derive(Debug)]
pub(super) struct Ending {
    disk_patience: Duration,
    /// Since when the disk has refused the output.
    blocked_since: Option<Duration>,
    gave_up_at: Option<Duration>,
    /// Since when it has refused the record of the exit.
    refused_since: Option<Duration>,
    retry_at: Option<Duration>,
}

impl Ending {
    pub(super) fn new(disk_patience: Duration) -> Self {
        Self {
            disk_patience,
            blocked_since: None,
            gave_up_at: None,
            refused_since: None,
            retry_at: None,
        }
    }

    /// When to try again to record the exit.
    pub(super) fn retry_at(&self) -> Option<Duration> {
        self.retry_at
    }

    /// Brings the output to its end. True once nothing more will be written.
    ///
    /// What the job left in its folders may be what fills the disk. If it is
    /// not, the output is given up after a while, or when the lease is over and
    /// nobody would take it.
    pub(super) fn complete(
        &mut self,
        output: &mut Output,
        folder: &mut Folder,
        lease_is_over: bool,
        now: Duration,
    ) -> bool {
        finish(output);
        if !output.is_blocked() {
            self.blocked_since = None;
            return true;
        }
        folder.empty();
        let since = *self.blocked_since.get_or_insert(now);
        match self.gave_up_at {
            None if lease_is_over || now >= since.saturating_add(self.disk_patience) => {
                self.gave_up_at = Some(now);
                folder.release();
                let waited = human(Duration::from_secs((now - since).as_secs()));
                output.give_up(&format!("no room on the runner's disk for {waited}"));
                finish(output);
            }
            Some(at) if now >= at + REFUSED_FOR.min(self.disk_patience) => output.abandon(),
            _ => {}
        }
        !output.is_blocked()
    }

    /// Records the exit. True when it is, or when it cannot be: then it is left
    /// to the runner that is connected, if one is (`can_tell`). The job must end.
    pub(super) fn record(
        &mut self,
        exit: &Exit,
        output: &Output,
        folder: &mut Folder,
        can_tell: bool,
        now: Duration,
    ) -> bool {
        if self.retry_at.is_some_and(|at| now < at) {
            return false;
        }
        let recorded = output.sync().and_then(|()| folder.record(record::EXIT, exit, true));
        let Err(error) = recorded else { return true };
        folder.empty();
        folder.release();
        self.retry_at = Some(now + RETRY_INTERVAL);
        let since = *self.refused_since.get_or_insert(now);
        let patience = if can_tell { REFUSED_FOR } else { self.disk_patience };
        // Nothing becomes of a folder that is gone.
        error.kind() == io::ErrorKind::NotFound || now >= since.saturating_add(patience)
    }
}

fn finish(output: &mut Output) {
    output.drain();
    if output.is_drained() {
        output.end();
    }
}
