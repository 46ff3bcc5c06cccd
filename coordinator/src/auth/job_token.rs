//! The token that a job has for as long as it has its lease. Nobody stores it: it is made
//! anew from the cluster's key whenever one is told or looked at, and the state says
//! whether the lease lives.

use baton_state::{JobId, JobTokenKey, Lease, State};
use subtle::ConstantTimeEq as _;

const PREFIX: &str = "bj";

/// The token of a lease.
pub(crate) fn job_token(key: &JobTokenKey, job: JobId, lease: Lease) -> String {
    let name = format!("{PREFIX}_{job}_{lease}");
    let proof = blake3::keyed_hash(key.bytes(), name.as_bytes());
    format!("{name}_{proof}")
}

/// The job whose token this is, if that job has the lease now.
pub(super) fn owner(state: &State, token: &str) -> Option<JobId> {
    let (job, lease) = parse(token)?;
    let lives = state.job(job)?.lease() == Some(lease);
    (lives && is_genuine(state.job_token_key()?, token, job, lease)).then_some(job)
}

/// Whether the token may be one of a lease, or of a key, that this state does not know
/// yet. Of what is made up that can be said at once.
pub(super) fn may_be_newer(state: &State, token: &str) -> bool {
    let Some((job, lease)) = parse(token) else { return false };
    let genuine = state.job_token_key().is_none_or(|key| is_genuine(key, token, job, lease));
    genuine && owner(state, token).is_none()
}

fn parse(token: &str) -> Option<(JobId, Lease)> {
    let mut parts = token.split('_');
    let (prefix, job, lease) = (parts.next()?, parts.next()?, parts.next()?);
    (prefix == PREFIX).then_some((job.parse().ok()?, Lease(lease.parse().ok()?)))
}

fn is_genuine(key: &JobTokenKey, token: &str, job: JobId, lease: Lease) -> bool {
    let [given, expected] =
        [token, &job_token(key, job, lease)].map(|token| blake3::hash(token.as_bytes()));
    given.as_bytes().ct_eq(expected.as_bytes()).into()
}
