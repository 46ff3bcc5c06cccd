//! What a session sends to its runner.

use baton_proto::{time::duration_to_proto, v1};
use baton_state::{Job, JobId, JobTokenKey, Lease};
use v1::session_response::Item;

use super::Timing;
use crate::{auth, convert};

pub(super) fn welcome(timing: &Timing) -> v1::SessionResponse {
    message(Item::Welcome(v1::Welcome {
        heartbeat_interval: Some(duration_to_proto(timing.heartbeat_interval)),
        lease_ttl: Some(duration_to_proto(timing.lease_ttl)),
    }))
}

pub(super) fn redirect(leader: String) -> v1::SessionResponse {
    message(Item::Redirect(v1::Redirect { leader }))
}

pub(super) fn heartbeat_ack(sequence: u64, spent: bool) -> v1::SessionResponse {
    message(Item::HeartbeatAck(v1::HeartbeatAck { sequence, spent }))
}

pub(super) fn assign(
    job: &Job,
    lease: Lease,
    renewed_by: u64,
    key: Option<&JobTokenKey>,
) -> v1::SessionResponse {
    message(Item::Assign(v1::Assign {
        job_id: job.id.to_string(),
        lease: lease.0,
        attempt: u32::try_from(job.attempts.len()).unwrap_or(u32::MAX),
        spec: Some(convert::spec_to_proto(&job.spec)),
        renewed_by,
        token: key.map(|key| auth::job_token(key, job.id, lease)).unwrap_or_default(),
    }))
}

pub(super) fn stop(job: JobId, lease: Lease, reason: v1::StopReason) -> v1::SessionResponse {
    let reason = reason.into();
    message(Item::Stop(v1::Stop { job_id: job.to_string(), lease: lease.0, reason }))
}

pub(super) fn settled(job: JobId, lease: Lease) -> v1::SessionResponse {
    message(Item::Settled(v1::Settled { job_id: job.to_string(), lease: lease.0 }))
}

pub(super) fn lift() -> v1::SessionResponse {
    message(Item::Lift(v1::Lift {}))
}

pub(super) fn message(item: Item) -> v1::SessionResponse {
    v1::SessionResponse { item: Some(item) }
}
