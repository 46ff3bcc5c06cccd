//! Who is calling, and what they may do. Every call needs a bearer token: the cluster's,
//! which may do everything, or that of a job, which may look at that job. Tokens are
//! compared by hash and in constant time.

mod job_token;
mod permissions;
#[cfg(test)]
mod tests;

use std::borrow::Cow;

use baton_proto::error::{ApiError, Reason};
use baton_state::JobId;
use http::HeaderMap;
use subtle::ConstantTimeEq as _;
use tonic::{
    Request, Status,
    metadata::{Ascii, MetadataValue},
    service::Interceptor,
};

pub(crate) use self::{
    job_token::job_token,
    permissions::{Method, check_job, methods},
};
use crate::{connections::Caller, errors::from_propose, raft::RaftHandle};

/// Who made a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// Somebody with the cluster's token.
    Admin,
    /// A job that has its lease.
    Job(JobId),
}

impl Principal {
    /// Their name, as it stands in records.
    pub(crate) fn name(&self) -> Cow<'static, str> {
        match self {
            Self::Admin => "admin".into(),
            Self::Job(job) => format!("job {job}").into(),
        }
    }
}

/// Lets a request through if it has a token that allows it, and notes whose that is.
#[derive(Clone)]
pub(crate) struct Authenticator {
    token: blake3::Hash,
    /// Whose state says which jobs have a lease; none where no job may call.
    jobs: Option<RaftHandle>,
}

impl Authenticator {
    /// Knows the cluster's token.
    pub(crate) fn new(token: &str) -> Self {
        Self { token: blake3::hash(token.as_bytes()), jobs: None }
    }

    /// Knows the tokens of jobs, too.
    pub(crate) fn with_jobs(self, raft: RaftHandle) -> Self {
        Self { jobs: Some(raft), ..self }
    }

    /// Whether a node that does not lead may know too little of the job whose token a
    /// call shows.
    pub(crate) fn lags(&self, headers: &HeaderMap) -> bool {
        let header = headers.get("authorization").and_then(|value| value.to_str().ok());
        let token = header.and_then(token_of);
        let jobs = self.jobs.as_ref().zip(token);
        jobs.is_some_and(|(raft, token)| job_token::may_be_newer(&raft.state(), token))
    }

    /// Waits until this node knows what the leader knows, if it lags.
    ///
    /// # Errors
    /// What to tell the caller when it does not come to that.
    pub(crate) async fn catch_up(&self, headers: &HeaderMap) -> Result<(), ApiError> {
        match &self.jobs {
            Some(raft) if self.lags(headers) => raft.read_barrier().await.map_err(from_propose),
            Some(_) | None => Ok(()),
        }
    }

    fn authenticate(&self, header: &str) -> Option<Principal> {
        let token = token_of(header)?;
        let given = blake3::hash(token.as_bytes());
        if given.as_bytes().ct_eq(self.token.as_bytes()).into() {
            return Some(Principal::Admin);
        }
        job_token::owner(&self.jobs.as_ref()?.state(), token).map(Principal::Job)
    }
}

impl Interceptor for Authenticator {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let Some(principal) = header.and_then(|header| self.authenticate(header)) else {
            return Err(ApiError::new(
                Reason::Unauthenticated,
                "the token is missing or wrong",
                "set BATON_TOKEN to a token of this cluster",
            )
            .into());
        };
        if let Some(caller) = request.extensions().get::<Caller>() {
            caller.is_known();
        }
        permissions::check_method(&request, &principal)?;
        request.extensions_mut().insert(principal);
        Ok(request)
    }
}

fn token_of(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

/// What a call carries that shows this token.
///
/// # Errors
/// When it has characters that cannot be sent.
pub(crate) fn bearer(token: &str) -> Result<MetadataValue<Ascii>, ApiError> {
    let bearer = MetadataValue::try_from(format!("Bearer {token}"));
    let mut bearer = bearer.map_err(|_| {
        ApiError::new(
            Reason::InvalidArgument,
            "the token has characters that cannot be sent",
            "make another one of letters and digits",
        )
    })?;
    bearer.set_sensitive(true);
    Ok(bearer)
}

/// Who made this request: nobody, only if it has not come by an authenticator.
pub(crate) fn principal<T>(request: &Request<T>) -> Option<&Principal> {
    request.extensions().get()
}
