//! Jobs.Watch: a job now and after each change.

use std::time::Duration;

use baton_proto::{error::ApiError, v1};
use baton_state::JobId;
use tokio::sync::mpsc;

use super::{gone, jobs::waiting_to_proto};
use crate::{convert::job_to_proto, jobs::Jobs};

/// How often a waiting job's place is looked at; others' changes move it.
const PLACE_EVERY: Duration = Duration::from_secs(1);

/// Sends the job until it has ended.
pub(super) async fn watch(
    jobs: Jobs,
    id: JobId,
    answers: mpsc::Sender<v1::WatchJobResponse>,
) -> Result<(), ApiError> {
    let mut changes = jobs.watch(id);
    let mut last = None;
    loop {
        changes.mark_unchanged();
        let job = jobs.get(id).await?;
        let waiting = jobs.explain(id).map(waiting_to_proto);
        let queued = waiting.is_some();
        let now = v1::WatchJobResponse { job: Some(job_to_proto(&job)), waiting };
        if last.as_ref() != Some(&now) {
            answers.send(now.clone()).await.map_err(gone)?;
            last = Some(now);
        }
        if job.is_finished() {
            return Ok(());
        }
        if queued {
            // Either way there is something new to look at.
            let _ = tokio::time::timeout(PLACE_EVERY, changes.changed()).await;
        } else {
            // Watchers keep the sender as long as somebody receives.
            let _ = changes.changed().await;
        }
    }
}
