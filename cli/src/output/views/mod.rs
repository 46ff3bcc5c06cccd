//! The JSON that `-o json` and `--result-file` write. Field names and their
//! meaning are stable; fields are only ever added. Times are RFC 3339 in UTC,
//! durations seconds, states the API's words in lower case. No text for people
//! is made here.

mod backup;
mod cluster;
mod error;
mod event;
mod job;
mod log;
mod queue;
mod runner;

use jiff::Timestamp;

pub(crate) use self::{
    backup::{BackupView, RestoreView},
    cluster::{ClusterView, RemovedMemberView, TransferView},
    error::ErrorView,
    event::{EventView, EventsView},
    job::{
        ArtifactView, ArtifactsListView, AttemptView, CancellationView, ExecutorView, JobView,
        JobsView, ResourcesView, SourceView, SpecView, SubmittedView, WhyView, job_state,
    },
    log::LogPieceView,
    queue::{QueueNameView, QueueView, QueuesView},
    runner::{ChangedView, ChecksView, HealthView, RunnerView, RunnersView},
};

/// A time of the API; none when it is out of any calendar's range.
pub(crate) fn time(time: &prost_types::Timestamp) -> Option<Timestamp> {
    Timestamp::new(time.seconds, time.nanos).ok()
}

fn optional_time(at: Option<&prost_types::Timestamp>) -> Option<Timestamp> {
    at.and_then(time)
}

fn seconds(duration: Option<&prost_types::Duration>) -> Option<f64> {
    duration.and_then(baton_proto::time::duration_from_proto).map(|duration| duration.as_secs_f64())
}
