//! The network as it is: gRPC over TCP.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use baton_client::{ClientError, Connection, Endpoint};
use baton_proto::v1;
use futures::{FutureExt as _, Stream, StreamExt as _, TryStreamExt as _, future::BoxFuture};
use tonic::{Response, Status, Streaming, codec::CompressionEncoding};

use super::{Answers, Link, Network, Requests};

/// Connects over TCP.
pub(crate) struct Grpc;

impl Network for Grpc {
    fn connect(
        &self,
        endpoint: Endpoint,
        within: Duration,
    ) -> BoxFuture<'_, Result<Arc<dyn Link>, ClientError>> {
        async move {
            let connection = Connection::connect(endpoint, within).await?;
            let session = connection.watchful();
            Ok(Arc::new(Linked { connection, session }) as Arc<dyn Link>)
        }
        .boxed()
    }
}

/// A coordinator, by two connections.
struct Linked {
    connection: Connection,
    /// Not among the output: a coordinator that hangs is to be left soon.
    session: Connection,
}

impl Link for Linked {
    fn address(&self) -> &str {
        self.connection.address()
    }

    fn session(
        &self,
        requests: Requests<v1::SessionRequest>,
    ) -> BoxFuture<'_, Result<Answers<v1::SessionResponse>, ClientError>> {
        async move { answers(self.session.runners().session(Sent(requests)).await) }.boxed()
    }

    fn send_log(
        &self,
        requests: Requests<v1::SendLogRequest>,
    ) -> BoxFuture<'_, Result<Answers<v1::SendLogResponse>, ClientError>> {
        async move { answers(self.connection.runners().send_log(Sent(requests)).await) }.boxed()
    }

    fn fetch_source(
        &self,
        request: v1::FetchSourceRequest,
    ) -> BoxFuture<'_, Result<Answers<v1::FileChunk>, ClientError>> {
        let runners = self.connection.runners();
        let mut runners = runners.accept_compressed(CompressionEncoding::Zstd);
        async move { answers(runners.fetch_source(request).await) }.boxed()
    }

    fn find_missing(
        &self,
        request: v1::FindMissingContentRequest,
    ) -> BoxFuture<'_, Result<v1::FindMissingResponse, ClientError>> {
        let mut runners = self.connection.runners();
        async move { Ok(runners.find_missing(request).await?.into_inner()) }.boxed()
    }

    fn send_content(
        &self,
        requests: Requests<v1::SendContentRequest>,
        shrinks: bool,
    ) -> BoxFuture<'_, Result<Answers<v1::UploadResponse>, ClientError>> {
        let mut runners = self.connection.runners();
        if shrinks {
            runners = runners.send_compressed(CompressionEncoding::Zstd);
        }
        async move { answers(runners.send_content(Sent(requests)).await) }.boxed()
    }
}

fn answers<T: Send + 'static>(
    opened: Result<Response<Streaming<T>>, Status>,
) -> Result<Answers<T>, ClientError> {
    Ok(opened?.into_inner().map_err(ClientError::from).boxed())
}

/// The requests as a type without a lifetime: with one, the compiler finds no proof that
/// the call's future is `Send`.
struct Sent<T>(Requests<T>);

impl<T> Stream for Sent<T> {
    type Item = T;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.0.poll_next_unpin(context)
    }
}
