//! How a runner reaches a cluster, as the rest of it sees that: calls and streams of
//! the API, over whatever carries them. Nothing in here retries or reconnects.

mod grpc;

use std::{sync::Arc, time::Duration};

use baton_client::{ClientError, Endpoint};
use baton_proto::v1;
use futures::{future::BoxFuture, stream::BoxStream};

pub(crate) use self::grpc::Grpc;

/// What is sent, until there is no more.
pub type Requests<T> = BoxStream<'static, T>;
/// What comes back, until the other side ends it. Nothing follows an error.
pub type Answers<T> = BoxStream<'static, Result<T, ClientError>>;

/// The way to the coordinators.
pub trait Network: Send + Sync {
    /// Connects to the first of the cluster's coordinators that answers.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when nobody answers `within` this time; otherwise
    /// what the coordinator, or whoever is there, answered.
    fn connect(
        &self,
        endpoint: Endpoint,
        within: Duration,
    ) -> BoxFuture<'_, Result<Arc<dyn Link>, ClientError>>;
}

/// One connection to a cluster: the calls of `baton.v1.Runners` that a runner makes.
/// Each fails, or the stream that it gave does, when the connection breaks.
pub trait Link: Send + Sync {
    /// `host:port` of the coordinator that the next call goes to.
    fn address(&self) -> &str;

    /// Opens the session.
    ///
    /// # Errors
    /// What the coordinator refused it with, or how the connection broke.
    fn session(
        &self,
        requests: Requests<v1::SessionRequest>,
    ) -> BoxFuture<'_, Result<Answers<v1::SessionResponse>, ClientError>>;

    /// Sends the output of an attempt.
    ///
    /// # Errors
    /// As [`Link::session`].
    fn send_log(
        &self,
        requests: Requests<v1::SendLogRequest>,
    ) -> BoxFuture<'_, Result<Answers<v1::SendLogResponse>, ClientError>>;

    /// Fetches the archive of a job, or something of its tree, from an offset on.
    ///
    /// # Errors
    /// As [`Link::session`].
    fn fetch_source(
        &self,
        request: v1::FetchSourceRequest,
    ) -> BoxFuture<'_, Result<Answers<v1::FileChunk>, ClientError>>;

    /// Asks what has to be sent of what a job left.
    ///
    /// # Errors
    /// As [`Link::session`].
    fn find_missing(
        &self,
        request: v1::FindMissingContentRequest,
    ) -> BoxFuture<'_, Result<v1::FindMissingResponse, ClientError>>;

    /// Sends a part of what a job left, which may shrink when it is compressed.
    ///
    /// # Errors
    /// As [`Link::session`].
    fn send_content(
        &self,
        requests: Requests<v1::SendContentRequest>,
        shrinks: bool,
    ) -> BoxFuture<'_, Result<Answers<v1::UploadResponse>, ClientError>>;
}
