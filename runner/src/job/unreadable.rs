//! An attempt whose records cannot be read: nothing of it can be reported, but
//! something of it may run, and must not once the job is started elsewhere.

use std::time::Duration;

use tracing::warn;

use super::{Attempts, journal::Journal, remove};
use crate::{
    executor::{Control, Execution, Progress, Recovered, StopCause},
    retry::Delays,
};

/// The first wait before looking again.
const AGAIN: Duration = Duration::from_secs(1);

/// Ends everything of it and removes its folder.
pub(super) async fn end(attempts: &Attempts, journal: &Journal) {
    let dir = journal.dir();
    let mut delays = Delays::new(AGAIN);
    loop {
        match attempts.0.executors.local.recover(dir).await {
            Ok(Recovered::Started(execution)) => {
                stop(execution).await;
                break;
            }
            Ok(Recovered::NotStarted) => break,
            Err(error) => {
                warn!(dir = %dir.path().display(), %error, "not known yet whether a job runs");
                delays.wait().await;
            }
        }
    }
    if let Err(error) = remove::remove(attempts.threads(), dir.path(), &attempts.trash()).await {
        warn!(dir = %dir.path().display(), %error, "folder not removed");
    }
}

async fn stop(mut execution: Execution) {
    let stop = Control::Stop { cause: StopCause::LeaseLost, grace: Duration::ZERO };
    // A process that is gone needs no orders.
    let _ = execution.control.send(stop).await;
    // Closed when whoever followed it is gone; then nothing is left to wait for.
    let _ = execution.progress.wait_for(Progress::is_over).await;
}
