//! An attempt whose records cannot be read: nothing of it can be reported, but
//! something of it may run, and must not once the job is started elsewhere.

use std::time::Duration;

use tracing::warn;

use super::{Attempts, journal::Journal, remove};
use crate::{
    executor::{AttemptDir, Control, Execution, Executor, Progress, Recovered, StopCause},
    retry::Delays,
};

/// The first wait before looking again.
const AGAIN: Duration = Duration::from_secs(1);

/// Ends everything of it and removes its folder.
pub(super) async fn end(attempts: &Attempts, journal: &Journal) {
    let dir = journal.dir();
    // Where it ran is not known either.
    for executor in attempts.0.executors.all() {
        end_with(&*executor, dir).await;
    }
    if let Err(error) = remove::remove(attempts.threads(), dir.path(), &attempts.trash()).await {
        warn!(dir = %dir.path().display(), %error, "folder not removed");
    }
}

async fn end_with(executor: &dyn Executor, dir: &AttemptDir) {
    let mut delays = Delays::new(AGAIN);
    loop {
        match executor.recover(dir).await {
            Ok(Recovered::Started(execution)) => return stop(execution).await,
            Ok(Recovered::NotStarted) => return,
            Err(error) => {
                warn!(dir = %dir.path().display(), %error, "not known yet whether a job runs");
                delays.wait().await;
            }
        }
    }
}

async fn stop(mut execution: Execution) {
    let stop = Control::Stop { cause: StopCause::LeaseLost, grace: Duration::ZERO };
    // A process that is gone needs no orders.
    let _ = execution.control.send(stop).await;
    // Closed when whoever followed it is gone; then nothing is left to wait for.
    let _ = execution.progress.wait_for(Progress::is_over).await;
}
